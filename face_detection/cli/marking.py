"""Copies of pictures with the boxes and names of their faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import click

from face_detection.cli.pictures import STDIN, Kind, kind_of
from face_detection.cli.service.protocol import Seen
from face_detection.recognition.drawing import Mark, marked_jpeg
from shared.errors import InvalidRequest
from shared.images import ImageDecoder
from shared.settings import FrontSettings

_JPEG = (".jpg", ".jpeg")


class Marker:
    """Writes the copies.

    Args:
        targets: where the copy of each file goes; for a video the folder of its frames.
    """

    def __init__(self, targets: dict[Path, Path]) -> None:
        settings = FrontSettings.from_environment()
        self._decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
        self._targets = targets

    @classmethod
    def into(cls, out: Path, files: Sequence[Path], sources: Sequence[Path]) -> Self:
        """A marker for the files found in ``sources``.

        Raises:
            click.UsageError: a copy would be written over a picture or over another copy.
        """
        if out.suffix.lower() in _JPEG and not out.is_dir():
            if len(files) != 1 or kind_of(files[0]) is Kind.VIDEO:
                raise click.UsageError("For several pictures, --draw must name a folder.")
            targets = {files[0]: out}
        else:
            targets = {file: out / _name(file, sources) for file in files}
        originals = {file.resolve() for file in files}
        if len(set(targets.values())) < len(targets) or any(
            target.resolve() in originals for target in targets.values()
        ):
            raise click.UsageError("--draw would write two pictures to one file, or over one of the pictures.")
        return cls(targets)

    def mark(self, file: Path, picture: bytes, seen: Sequence[Seen], seconds: float | None = None) -> None:
        """Write the copy of a picture, or of the frame of a video at a time in seconds.

        Raises:
            ImageError: the picture cannot be decoded.
            InvalidRequest: the copy cannot be written.
        """
        marks = [Mark(one.box, None if one.id is None else one.name) for one in seen]
        copy = marked_jpeg(self._decoder.decode(self._decoder.bytes_of(picture)), marks, draw=True, mask=None)
        target = self._targets[file]
        if seconds is not None:
            target = target / f"{seconds:010.3f}.jpg"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(copy)
        except OSError as error:
            raise InvalidRequest(f"{target} cannot be written: {error.strerror}.") from error


def _name(file: Path, sources: Sequence[Path]) -> Path:
    """Where in the folder of copies one belongs: as in the folder that was named."""
    if file == STDIN:
        return Path("stdin.jpg")
    folders = [source for source in sources if source.is_dir() and file.is_relative_to(source)]
    name = file.relative_to(folders[0]) if folders else Path(file.name)
    return name if kind_of(file) is Kind.VIDEO or name.suffix.lower() in _JPEG else name.with_name(f"{name.name}.jpg")
