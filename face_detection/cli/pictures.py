"""Which files are pictures and videos, by their content, and the bytes of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import click

from face_detection.cli.console import remark
from face_detection.cli.video.containers import LONGEST_SIGNATURE, is_video
from shared.errors import ImageTooLarge, InvalidRequest
from shared.formats import format_of
from shared.picture_text import begins_picture

MOST_BYTES = 256 << 20
"""Largest picture that is read; the service's own limit (MAX_IMAGE_BYTES) is lower and says so itself."""

STDIN = Path("-")


def title(path: Path) -> str:
    """What a file is called."""
    return "(standard input)" if path == STDIN else str(path)


class Kind(StrEnum):
    """What a file is, by its content."""

    PICTURE = "a picture"
    VIDEO = "a video"
    OTHER = "neither a picture nor a video"


@dataclass
class Found:
    """Files that are wanted, and those that are passed over, with the reasons."""

    files: list[Path] = field(default_factory=list)
    passed_over: dict[Path, str] = field(default_factory=dict)

    def tell(self) -> None:
        """List on standard error what is passed over."""
        if self.passed_over:
            remark(f"Passed over {_counted(self.passed_over)}:")
        for path, reason in self.passed_over.items():
            remark(f"  {path}: {reason}")

    def rows(self) -> list[dict[str, object]]:
        """What is passed over as JSON objects."""
        return [
            {"file": str(path), "error": {"code": "passed_over", "message": reason}}
            for path, reason in self.passed_over.items()
        ]

    def refuse_loss(self, failed: str) -> None:
        """End the command with exit code 1 if something is passed over, or if the sentence ``failed`` says what failed.

        Raises:
            click.ClickException: see above.
        """
        passed = f"{_counted(self.passed_over)} passed over." if self.passed_over else ""
        if failed or passed:
            raise click.ClickException(" ".join(filter(None, (failed, passed))))


def kind_of(path: Path) -> Kind:
    """What a file is that somebody names, who may also mean a picture that is written down as text.

    What cannot be read twice, such as a pipe, or not at all, is left to ``read_picture``.
    """
    try:
        if not path.is_file():
            return Kind.PICTURE
        start = _start_of(path)
    except OSError:
        return Kind.PICTURE
    return Kind.PICTURE if begins_picture(start) else _kind_of(start)


def found_in(folder: Path, *wanted: Kind) -> Found:
    """The files of these kinds in a folder and below it at any depth, by name; links are followed.

    Everything else is passed over. Of what is hidden only that counts which is wanted otherwise.
    """
    found = Found()
    for path in sorted(_below(folder, found.passed_over)):
        reason = _objection(path, wanted)
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            if reason is None:
                found.passed_over[path] = "hidden"
        elif reason is not None:
            found.passed_over[path] = reason
        else:
            found.files.append(path)
    return found


def found_below(paths: Iterable[Path]) -> Found:
    """The files that are named, and the pictures and videos in and below the folders that are named, each once."""
    found = Found()
    for path in paths:
        inside = found_in(path, Kind.PICTURE, Kind.VIDEO) if path.is_dir() else Found([path])
        found.files += inside.files
        found.passed_over |= inside.passed_over
    found.files = list(dict.fromkeys(found.files))
    return found


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


def _below(folder: Path, refused: dict[Path, str]) -> Iterator[Path]:
    """All files; folders that cannot be read are noted in ``refused``."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        place, above = waiting.pop()
        try:
            status = place.stat()
            paths = list(place.iterdir())
        except OSError as error:
            refused[place] = _unreadable(error)
            continue
        this = (status.st_dev, status.st_ino)
        if this in above:  # a link that leads back
            continue
        for path in paths:
            if os.path.isdir(path):  # noqa: PTH112  # that of Path raises errors
                waiting.append((path, above | {this}))
            else:
                yield path


def _objection(path: Path, wanted: Collection[Kind]) -> str | None:
    """Why a file is not wanted; None if it is."""
    try:
        if not path.is_file():
            return "no file"
        kind = _kind_of(_start_of(path))
    except OSError as error:
        return _unreadable(error)
    return None if kind in wanted else kind.value


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LONGEST_SIGNATURE)


def _kind_of(start: bytes) -> Kind:
    return Kind.PICTURE if format_of(start) else Kind.VIDEO if is_video(start) else Kind.OTHER


def _unreadable(error: OSError) -> str:
    return f"it cannot be read: {error.strerror}"


def _counted(files: Collection[Path]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"
