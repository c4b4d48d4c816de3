"""python -m face_detection export, python -m face_detection import"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from face_detection.cli import archive
from face_detection.cli.console import followed, remark
from face_detection.cli.service.connection import connected, opened_local, refusals
from face_detection.cli.service.protocol import Record, Service
from face_detection.gallery.directory import DEFAULT_TENANT
from shared.errors import NotFound, SpaceMismatch

if TYPE_CHECKING:
    from face_detection.cli.service.local import LocalService

_BATCH_PEOPLE = 200
_BATCH_SAMPLES = 2000


@click.command(
    "export",
    epilog="""\b
Examples:
  python -m face_detection export people.jsonl
  python -m face_detection export people.jsonl --local --company 1042
""",
)
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@connected()
def export_people(service: Service, file: Path) -> None:
    """Write everybody into one FILE: ids, names, metadata and embeddings, no pictures.

    The file identifies people: keep it as safe as the database. A service gives out only the embeddings of the model
    that it uses; with --local those of all models are exported.
    """
    missing = 0

    def records() -> Iterator[Record]:
        nonlocal missing
        for record in followed(service.export(), None, "people"):
            missing += record.missing
            if record.samples:
                yield record

    summary = archive.write(file, records())
    click.echo(f"Exported {summary.people} people with {summary.samples} photos.")
    if missing:
        raise click.ClickException(f"{missing} photos are of other models, which only export --local can reach.")


@click.command(
    "import",
    epilog="""\b
Examples:
  python -m face_detection import people.jsonl --local
  python -m face_detection import people.jsonl --local --replace
""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--local", is_flag=True, help="Must be given: see above.")
@click.option("--company", default=DEFAULT_TENANT, show_default=True, metavar="CODE", help="Whose people they become.")
@click.option("--replace", is_flag=True, help="Give people who are there already what the file has, instead of theirs.")
@click.option(
    "--space",
    type=click.Choice(["current", "any"]),
    default="current",
    show_default=True,
    help="Take embeddings of the model in use only, or of any; the others are not found while their model is not used.",
)
def import_people(file: Path, local: bool, company: str, replace: bool, space: str) -> None:
    """Read people from a FILE that export has written.

    They are written into the database that DATABASE names, hence --local: no service takes embeddings. One that runs on
    the same database finds them at its next request. The whole file is checked before anything is written. People who
    are there already stay as they are, unless --replace is given; so after an interruption the same command goes on.
    """
    if not local:
        raise click.UsageError("A service takes no embeddings: add --local to write into the database itself.")
    written = kept = 0
    with refusals():
        summary = archive.check(file)
        with opened_local(company) as service:
            if space == "current":
                _check_space(service, summary)
            for batch in _batches(followed(archive.read(file), summary.people, "people")):
                wanted = batch if replace else [one for one in batch if not _is_known(service, one.id)]
                if wanted:
                    service.store(wanted)
                written, kept = written + len(wanted), kept + len(batch) - len(wanted)
    click.echo(f"Imported {written} people.")
    if kept:
        remark(f"{kept} people were there already and stayed as they are (--replace gives them what the file has).")


def _check_space(service: LocalService, summary: archive.Summary) -> None:
    if not summary.spaces:
        return
    service.prepare()
    current = service.space()
    others = sorted(set(summary.spaces) - {current})
    if others:
        count = sum(summary.spaces[space] for space in others)
        raise SpaceMismatch(
            f"{count} of {summary.samples} photos in the file are of another model than the one in use: "
            f"{', '.join(others)} instead of {current}. Use that model (MODEL), or import them to wait for it: "
            "--space any."
        )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    samples = 0
    for record in records:
        batch.append(record)
        samples += len(record.samples)
        if len(batch) >= _BATCH_PEOPLE or samples >= _BATCH_SAMPLES:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def _is_known(service: Service, id: str) -> bool:
    try:
        service.person(id)
    except NotFound:
        return False
    return True
