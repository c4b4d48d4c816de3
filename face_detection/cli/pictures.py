"""Files with pictures: which there are, and their bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from shared.errors import ImageTooLarge, InvalidRequest

PICTURES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"})

MOST_BYTES = 256 << 20
"""Largest file that is read; the service's own limit (MAX_IMAGE_BYTES) is lower and says so itself."""

STDIN = Path("-")


def is_picture(path: Path) -> bool:
    """Whether a path is a file that is named like a picture and is not hidden."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()


def is_video(path: Path) -> bool:
    """Whether a path is named like a video and is not hidden."""
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if is_picture(path))


def found_below(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and the pictures and videos in the folders that are named and below them, each once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (one for one in path.rglob("*") if is_picture(one) or (is_video(one) and one.is_file()))
            found += sorted(inside)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def read_picture(path: Path) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises:
        InvalidRequest: it cannot be read.
        ImageTooLarge: more than ``MOST_BYTES``.
    """
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"It cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise ImageTooLarge(f"It has more than {MOST_BYTES} bytes.")
    return data
