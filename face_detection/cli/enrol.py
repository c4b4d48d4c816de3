"""python -m face_detection enrol"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from face_detection.cli.connection import connected
from face_detection.cli.pictures import pictures_in, read_picture
from face_detection.cli.progress import followed, remark
from face_detection.cli.service import Outcome, Photo, Service, check_id, check_name
from shared.errors import ServiceError

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
@click.option("--json", "as_json", is_flag=True, help="Print what became of each file as a JSON array.")
@connected()
def enrol(service: Service, folder: Path, add: bool, as_json: bool) -> None:
    """Enrol people from a FOLDER of photos.

    A sub-folder is a person with all photos in it; a file directly in the folder is a person too. The name of the
    sub-folder, or of the file without its suffix, becomes the id, and with spaces for underscores the name. Of each
    photo the largest face is taken. Photos that cannot be used are named on standard error, and the exit code is 1.
    """
    people = _people_in(folder)
    if not people:
        raise click.ClickException(f"There are no pictures in {folder}.")
    service.prepare()
    total = sum(map(len, people.values()))
    work = _added(service, people) if add else _replaced(service, people)
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
        click.echo(json.dumps([_row(one) for one in results], indent=2))
    else:
        click.echo(f"Enrolled {len({one.person for one in stored})} people with {len(stored)} photos.")
    if ended:
        raise ended
    if len(stored) < total:
        raise click.ClickException(f"{total - len(stored)} of {total} photos could not be used.")


def _people_in(folder: Path) -> dict[str, list[Path]]:
    """The photos of each person, by id."""
    people: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            people[path.name] += pictures_in(path)
    for path in pictures_in(folder):
        people[path.stem].append(path)
    return {id: photos for id, photos in people.items() if photos}


def _replaced(service: Service, people: dict[str, list[Path]]) -> Iterator[_Result]:
    """Everybody loses what they had with the first of the photos that can be used, and gets the others added."""
    single: list[tuple[str, Path]] = []
    for id, photos in people.items():
        if len(photos) == 1:
            single.append((id, photos[0]))
            continue
        for used, photo in enumerate(photos, 1):
            (result,) = _enrolled(service, [(id, photo)])
            yield result
            if not isinstance(result.outcome, ServiceError):
                yield from _added(service, {id: photos[used:]})
                break
    yield from _enrolled(service, single)


def _enrolled(service: Service, photos: Sequence[tuple[str, Path]]) -> Iterator[_Result]:
    for batch in _batches(photos):
        known = [Photo(id, _name_of(id), data) for id, _, data in batch if isinstance(data, bytes)]
        outcomes = iter(service.enrol(known) if known else ())
        yield from _results(batch, outcomes)


def _added(service: Service, people: dict[str, list[Path]]) -> Iterator[_Result]:
    for id, photos in people.items():
        for batch in _batches([(id, photo) for photo in photos]):
            known = [data for _, _, data in batch if isinstance(data, bytes)]
            yield from _results(batch, iter(service.add(id, _name_of(id), known) if known else ()))


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
