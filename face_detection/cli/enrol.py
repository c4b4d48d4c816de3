"""python -m face_detection enrol"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from face_detection.cli.console import followed, remark
from face_detection.cli.parameters import conflict_option, detection_option, face_option, json_option
from face_detection.cli.pictures import Kind, found_in, people_of, read_picture
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import Look, Outcome, Photo, Service, check_id, check_name, is_known
from shared.errors import ServiceError
from shared.models import Effort, OnConflict

_MOST_PHOTOS = 32
_MOST_BYTES = 64 << 20
"""Of one request; a single larger photo makes a request of its own."""


@dataclass(frozen=True)
class _Result:
    """What became of a file."""

    person: str
    file: Path
    outcome: Outcome


@click.command(
    epilog="""\b
Examples:
  python -m face_detection enrol photos/               photos/Ada_Lovelace.jpg, photos/Alan_Turing/1.jpg, ...
  python -m face_detection enrol photos/ --add         further photos of people who keep theirs
  python -m face_detection enrol photos/ --local       without a running service
"""
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--add", is_flag=True, help="Add photos to what people have instead of replacing it.")
@face_option("--face", "each photo")
@detection_option
@conflict_option
@json_option("Print what became of each file as a JSON array.")
@connected()
def enrol(
    service: Service,
    folder: Path,
    add: bool,
    face: str | None,
    detection: Effort | None,
    on_conflict: OnConflict | None,
    as_json: bool,
) -> None:
    """Enrol people from a FOLDER of photos.

    A sub-folder is a person with all photos in it, at any depth; a file directly in the folder is a person too. The
    name of the sub-folder, or of the file without its suffix, becomes the id, and with spaces for underscores the name.
    Of several faces in a photo the one is taken that is large and near to the middle; where two are equally good the
    photo is refused, unless --face names the largest, or a point (in pixels) in the one that is meant. Photos that are
    nearer to somebody else than to their own person, or unlike their person's others, are listed. Photos that
    cannot be used, and whatever is no picture by its content, are listed on standard error, and the exit code is 1.
    """
    found = found_in(folder, Kind.PICTURE)
    people = people_of(found.files, folder)
    if not people:
        found.tell()
        raise click.ClickException(f"There are no pictures in {folder}.")
    service.prepare()
    total = sum(map(len, people.values()))
    look = Look(face, detection, on_conflict)
    work = _added(service, people, look) if add else _replaced(service, people, look)
    results: list[_Result] = []
    ended: ServiceError | None = None
    try:
        for result in followed(work, total, "photos"):
            results.append(result)
            reasons = [result.outcome.message] if isinstance(result.outcome, ServiceError) else result.outcome.warnings
            for reason in reasons:
                remark(f"{result.file}: {reason}")
    except ServiceError as error:
        ended = error
    stored = [one for one in results if not isinstance(one.outcome, ServiceError)]
    if as_json:
        click.echo(json.dumps([_row(one) for one in results] + found.rows(), indent=2))
    else:
        click.echo(f"Enrolled {len({one.person for one in stored})} people with {len(stored)} photos.")
    found.tell()
    if ended:
        raise ended
    failed = total - len(stored)
    found.refuse_loss(f"{failed} of {total} photos could not be used." if failed else "")


def _replaced(service: Service, people: dict[str, list[Path]], look: Look) -> Iterator[_Result]:
    """Whoever is new comes with all photos of a request, or with none.

    Others lose what they had with the first of the photos that can be used, and get the rest added: no request replaces
    by several.
    """
    single: list[tuple[str, Path]] = []
    for id, photos in people.items():
        if len(photos) == 1:
            single.append((id, photos[0]))
            continue
        if not is_known(service, id):
            yield from _added(service, {id: photos}, look)
            continue
        for used, photo in enumerate(photos, 1):
            (result,) = _enrolled(service, [(id, photo)], look)
            yield result
            if not isinstance(result.outcome, ServiceError):
                yield from _added(service, {id: photos[used:]}, look)
                break
    yield from _enrolled(service, single, look)


def _enrolled(service: Service, photos: Sequence[tuple[str, Path]], look: Look) -> Iterator[_Result]:
    for batch in _batches(photos):
        known = [Photo(id, _name_of(id), data, look) for id, _, data in batch if isinstance(data, bytes)]
        outcomes = iter(service.enrol(known) if known else ())
        yield from _results(batch, outcomes)


def _added(service: Service, people: dict[str, list[Path]], look: Look) -> Iterator[_Result]:
    for id, photos in people.items():
        for batch in _batches([(id, photo) for photo in photos]):
            known = [data for _, _, data in batch if isinstance(data, bytes)]
            yield from _results(batch, iter(service.add(id, _name_of(id), known, look) if known else ()))


_Read = tuple[str, Path, bytes | ServiceError]


def _results(batch: Sequence[_Read], outcomes: Iterator[Outcome]) -> Iterator[_Result]:
    for id, file, data in batch:
        yield _Result(id, file, data if isinstance(data, ServiceError) else next(outcomes))


def _batches(photos: Sequence[tuple[str, Path]]) -> Iterator[list[_Read]]:
    """Photos with their bytes, or why there are none, as many at once as one request takes."""
    batch: list[_Read] = []
    size = 0
    for id, file in photos:
        data = _read(id, file)
        length = 0 if isinstance(data, ServiceError) else len(data)
        if batch and (len(batch) == _MOST_PHOTOS or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((id, file, data))
        size += length
    if batch:
        yield batch


def _read(id: str, file: Path) -> bytes | ServiceError:
    try:
        check_name(_name_of(check_id(id)))
        return read_picture(file)
    except ServiceError as error:
        return error


def _name_of(id: str) -> str:
    return id.replace("_", " ")


def _row(one: _Result) -> dict[str, object]:
    row: dict[str, object] = {"file": str(one.file), "id": one.person}
    if isinstance(one.outcome, ServiceError):
        return row | {"error": {"code": one.outcome.code, "message": one.outcome.message}}
    return row | {"warnings": list(one.outcome.warnings)}
