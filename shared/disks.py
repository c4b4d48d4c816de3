"""Whether a folder takes what is to be written to it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest above it that is a folder which can be seen."""
    path = path.absolute()
    # Path.is_dir would raise where a folder above may not be searched.
    return next(one for one in (path, *path.parents) if os.path.isdir(one))  # noqa: PTH112


def try_writing(folder: Path, size: int) -> None:
    """Write so many bytes to a file without a name in a folder; nothing of it is left.

    Raises:
        OSError: the folder is read-only, its disk is full, or writing fails otherwise.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(size))
        probe.flush()
        os.fsync(probe.fileno())  # some file systems find only then that there is no room
