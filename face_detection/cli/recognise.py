"""python -m face_detection recognise"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import click

from face_detection.cli.console import followed, print_list, remark
from face_detection.cli.parameters import (
    SECONDS,
    ExistingPath,
    detection_option,
    json_option,
    liveness_option,
    threshold_options,
)
from face_detection.cli.pictures import STDIN, Kind, found_below, kind_of, read_picture, title
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import FAULTS_OF_PICTURES, How, Recognise, Seen, Service
from face_detection.cli.video.frames import Video
from face_detection.cli.video.presence import Presence, Stay
from face_detection.recognition.drawing import Mark, marked_jpeg
from shared.calibration import Limit
from shared.errors import InvalidRequest, ServiceError, UnsupportedImage
from shared.images import ImageDecoder
from shared.models import Effort
from shared.settings import FrontSettings
from shared.signals import Stopped

_AT_ONCE = 4
"""Pictures that are worked on at once: while one is decoded another is embedded."""

_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class _Watched:
    """Who is seen in a video, and for how long it was looked at, in seconds."""

    stays: Sequence[Stay]
    duration: float


_Found = Sequence[Seen] | _Watched | ServiceError


@click.command(
    epilog="""\b
Examples:
  python -m face_detection recognise party.jpg
  python -m face_detection recognise holiday/ --json
  python -m face_detection recognise party.jpg --draw party-with-names.jpg
  python -m face_detection recognise film.mp4 --every 0.5 --draw frames/
  curl -s http://camera/snapshot.jpg | python -m face_detection recognise -
"""
)
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="FILE|FOLDER|VIDEO|-...",
    type=ExistingPath(),
)
@threshold_options
@liveness_option
@detection_option
@click.option("--every", type=SECONDS, default=1.0, show_default=True, help="Seconds from frame to frame of a video.")
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Write pictures with boxes and names into this folder, or for a single picture to this .jpg file.",
)
@click.option("--quality", is_flag=True, help="Also say how well each face of a picture can be recognised, 0 to 1.")
@json_option("Print a JSON array with an object for each file.")
@connected()
def recognise(
    service: Service,
    sources: tuple[Path, ...],
    limit: Limit | None,
    liveness: bool,
    detection: Effort | None,
    every: float,
    draw: Path | None,
    quality: bool,
    as_json: bool,
) -> None:
    """Say who is on pictures and in videos; - is a picture on standard input.

    What a file is, its content tells. Folders are searched to any depth; what is passed over there is listed on
    standard error, and the exit code is 1.

    Pictures give a line for each face, in reading order, with its box (x, y, width, height in pixels); videos one for
    each stay of somebody, from the first to the last sighting. Unknown faces have no name, and a reason where none is
    given for the face's sake: low_quality.
    """
    found_files = found_below(sources)
    files = found_files.files
    if not files:
        found_files.tell()
        raise click.ClickException("There are no pictures and no videos.")
    marker = _Marker.into(draw, files, sources) if draw else None
    service.prepare()

    found: list[tuple[Path, _Found]] = []
    ended: ServiceError | None = None
    try:
        named = partial(service.recognise, how=How(limit, liveness, detection))
        work = partial(_examine, named, every=every, marker=marker)
        for file, result in followed(_in_order(files, work), len(files), "files"):
            found.append((file, result))
            if isinstance(result, ServiceError):
                remark(f"{title(file)}: {result.message}")
    except ServiceError as error:
        ended = error
    if ended and not found:
        raise ended
    if as_json:
        rows = [_object(file, result, quality) for file, result in found] + found_files.rows()
        click.echo(json.dumps(rows, indent=2))
    else:
        _print(found, quality)
    found_files.tell()
    if ended:
        raise ended
    failed = sum(isinstance(result, ServiceError) for _, result in found)
    found_files.refuse_loss(f"{failed} of {len(files)} files could not be used." if failed else "")


def _in_order(files: Iterable[Path], work: Callable[[Path], _Found]) -> Iterator[tuple[Path, _Found]]:
    """Each file with the result of ``work``, which is done for several at once."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    waiting: deque[tuple[Path, Future[_Found]]] = deque()
    patient = True
    try:
        for file in files:
            waiting.append((file, pool.submit(work, file)))
            if len(waiting) == 2 * _AT_ONCE:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except Stopped:  # a video would take its time
        patient = False
        raise
    finally:
        pool.shutdown(patient, cancel_futures=True)


def _examine(recognise: Recognise, file: Path, every: float, marker: _Marker | None) -> _Found:
    try:
        kind = kind_of(file)
        if kind is Kind.OTHER:
            raise UnsupportedImage(f"It is {kind}.")
        if kind is Kind.VIDEO:
            return _watch(recognise, file, every, marker)
        picture = read_picture(file)
        seen = recognise(picture)
        if marker:
            marker.mark(file, picture, seen)
        return seen
    except ServiceError as error:
        if error.code not in FAULTS_OF_PICTURES:
            raise
        return error


def _watch(recognise: Recognise, file: Path, every: float, marker: _Marker | None) -> _Watched:
    presence = Presence(patience=2 * every)
    stays: list[Stay] = []
    seconds = 0.0
    video = Video(file)
    expected = None if video.duration is None else int(video.duration / every) + 1
    for frame in followed(video.frames(every), expected, "frames"):
        seconds = frame.seconds
        picture = frame.jpeg()
        seen = recognise(picture)
        if marker:
            marker.mark(file, picture, seen, seconds)
        stays += presence.see(seen, seconds)[1]
    stays += presence.leave()
    return _Watched(sorted(stays, key=lambda stay: stay.begin), seconds)


def _print(found: Sequence[tuple[Path, _Found]], quality: bool) -> None:
    faces = [
        {"file": title(file), "box": str(one.box), **_who(one, quality), **_checked(one)}
        for file, result in found
        if not isinstance(result, ServiceError | _Watched)
        for one in result
    ]
    stays = [
        {
            "video": title(file),
            "from": f"{stay.begin:.1f} s",
            "to": f"{stay.end:.1f} s",
            "frames": stay.frames,
            "name": stay.name,
            "id": stay.id,
            "distance": stay.distance,
        }
        for file, result in found
        if isinstance(result, _Watched)
        for stay in result.stays
    ]
    print_list(faces, as_json=False)
    if faces and stays:
        click.echo()
    print_list(stays, as_json=False)


def _who(one: Seen, quality: bool) -> dict[str, object]:
    """Who a face is, or why it is nobody."""
    known: dict[str, object] = {
        "name": f"({one.reason})" if one.reason else one.name,
        "id": one.id,
        "distance": one.distance,
        "false_match_rate": one.false_match_rate,
        "margin": one.margin,
        "ambiguous": None if one.id is None else "yes" if one.ambiguous else "no",
    }
    return known | ({"quality": one.quality} if quality else {})


def _object(file: Path, result: _Found, quality: bool) -> dict[str, object]:
    row: dict[str, object] = {"file": title(file)}
    if isinstance(result, ServiceError):
        return row | {"error": {"code": result.code, "message": result.message}}
    if isinstance(result, _Watched):
        return row | {"seconds": round(result.duration, 3), "seen": [_stay(stay) for stay in result.stays]}
    return row | {"faces": [_face(one, quality) for one in result]}


def _face(one: Seen, quality: bool) -> dict[str, object]:
    face: dict[str, object] = {
        "bbox": str(one.box),
        "angle": one.angle,
        "id": one.id,
        "name": one.name,
        "distance": one.distance,
        "threshold": one.threshold,
    }
    matched: dict[str, object] = {
        "false_match_rate": one.false_match_rate,
        "margin": one.margin,
        "ambiguous": one.ambiguous,
    }
    face |= matched if one.id is not None else {}
    face |= {"reason": one.reason} if one.reason else {}
    return face | _checked(one) | ({"quality": one.quality} if quality else {})


def _checked(one: Seen) -> dict[str, object]:
    """What the liveness check says of a face, if it was asked."""
    return {} if one.liveness is None else {"liveness": one.liveness}


def _stay(stay: Stay) -> dict[str, object]:
    return {
        "id": stay.id,
        "name": stay.name,
        "from": round(stay.begin, 3),
        "to": round(stay.end, 3),
        "frames": stay.frames,
        "distance": stay.distance,
    }


class _Marker:
    """Writes copies of pictures with the boxes and names of their faces.

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
            targets = {file: out / _name_of_copy(file, sources) for file in files}
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


def _name_of_copy(file: Path, sources: Sequence[Path]) -> Path:
    """Where in the folder of copies one belongs: as in the folder that was named."""
    if file == STDIN:
        return Path("stdin.jpg")
    folders = [source for source in sources if source.is_dir() and file.is_relative_to(source)]
    name = file.relative_to(folders[0]) if folders else Path(file.name)
    return name if kind_of(file) is Kind.VIDEO or name.suffix.lower() in _JPEG else name.with_name(f"{name.name}.jpg")
