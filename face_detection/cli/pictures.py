"""Which files are pictures and videos, by their content, and the bytes of pictures."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import click

from face_detection.cli.console import remark
from face_detection.naming import composed
from shared.errors import ImageTooLarge, InvalidRequest
from shared.formats import format_of
from shared.picture_text import begins_picture

MOST_BYTES = 256 << 20
"""Largest picture that is read; the service's own limit (MAX_IMAGE_BYTES) is lower and says so itself."""

STDIN = Path("-")

_LONGEST_SIGNATURE = 4096
"""Bytes that are enough to tell."""

_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV
    b".RMF",  # RealMedia
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",  # MXF
    b"DKIF",  # IVF
    b"nut/multimedia container",
    b"YUV4MPEG2 ",
    b"\x1f\x07\x00",  # DV
)
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_BRANDS_WITHOUT_VIDEO = frozenset({b"M4A ", b"M4B ", b"M4P ", b"crx "})
"""Of the ISO base media file format: sound, and Canon's raw pictures."""

# Start codes of MPEG-1, MPEG-2 and MPEG-4 part 2 (pack, sequence, object), of H.264 (sequence parameters, delimiter,
# supplement), and of H.265 (parameter sets, delimiter, supplement).
_START_CODE = re.compile(
    rb"\0{2,3}\x01(?:[\xb0\xb3\xb5\xba]|[\0-\x1f]\0\0\x01|[\x06\x09\x27\x47\x67]|[\x40\x42\x44\x46\x4e]\x01)"
)
_PACKETS = (188, 192, 204)
"""Lengths of a packet of an MPEG transport stream: plain, with times (Blu-ray, AVCHD), and with error correction."""

_LEAST_PACKETS = 4


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


def people_of(photos: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """The photos of each person, by id: what is in the folder, directly or at any depth."""
    people: dict[str, list[Path]] = defaultdict(list)
    for photo in photos:
        first, *deeper = photo.relative_to(folder).parts
        people[composed(first if deeper else photo.stem)].append(photo)
    return people


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
        return file.read(_LONGEST_SIGNATURE)


def _kind_of(start: bytes) -> Kind:
    return Kind.PICTURE if format_of(start) else Kind.VIDEO if is_video(start) else Kind.OTHER


def _unreadable(error: OSError) -> str:
    return f"it cannot be read: {error.strerror}"


def _counted(files: Collection[Path]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def is_video(data: bytes) -> bool:
    """Whether a file that begins with these bytes, ``_LONGEST_SIGNATURE`` of them or all, is a video.

    Pictures of several frames are no videos: ask ``shared.formats`` first.
    """
    if data.startswith(_STARTS) or _START_CODE.match(data):
        return True
    if data[4:8] == b"ftyp":
        return data[8:12] not in _BRANDS_WITHOUT_VIDEO
    if data[4:8] in _QUICKTIME_ATOMS:
        return True
    if data.startswith(b"RIFF"):
        return data[8:12] == b"AVI "
    if data.startswith(b"OggS"):
        return b"theora" in data[:512] or b"OVP80" in data[:512]
    return any(_is_transport_stream(data, length) for length in _PACKETS)


def _is_transport_stream(data: bytes, length: int) -> bool:
    """Recordings may begin in the middle of a packet, so a mark is looked for that comes again and again."""
    marks = min(len(data) // length, 16)
    return marks >= _LEAST_PACKETS and any(
        all(data[start + number * length] == 0x47 for number in range(marks)) for start in range(length)
    )
