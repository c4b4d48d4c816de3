"""Weight files on disk: checksums, atomic replacement, and one process at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import WeightsError

LOCK_FILE = ".fetch.lock"

_SCRATCH_PREFIX = ".fetch-"
_PART_SUFFIX = ".part"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write a file that appears under its name only when it is complete.

    Yields the path of an empty temporary file beside the target. When the block ends well, the file is synced to
    disk and renamed; otherwise it is removed.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_PART_SUFFIX, dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder inside another one, so that files can be renamed out of it; removed at the end."""
    name = tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=folder)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, after creating the folder: only one process fetches or converts at a time.

    The kernel releases the lock when its holder dies.

    Raises:
        WeightsError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise WeightsError(f"Cannot write to the weights folder {folder}: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_leftovers(folder)
        yield


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed process could not; whoever holds the lock is the only one to write."""
    for scratch in folder.glob(f"{_SCRATCH_PREFIX}*"):
        shutil.rmtree(scratch, ignore_errors=True)
    for part in folder.glob(f".*{_PART_SUFFIX}"):
        part.unlink(missing_ok=True)
