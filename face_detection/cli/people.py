"""python -m face_detection people, events"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice

import click

from face_detection.cli.console import print_list, remark
from face_detection.cli.parameters import CODE, CONDITION, MOMENT, json_option
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import Service, check_name
from face_detection.gallery.events import Event, EventFilter, EventKind
from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Person
from shared.errors import ServiceError
from shared.times import time_text


@click.group(
    epilog="""\b
Examples:
  python -m face_detection people list --text obama
  python -m face_detection people list --metadata department=Sales
  python -m face_detection people rename 44 'Barack Obama'
  python -m face_detection people photos 44
  python -m face_detection people photos 44 --delete 7
  python -m face_detection people delete 44 45
"""
)
def people() -> None:
    """People who are enrolled: look at them, rename and delete them."""


@people.command("list")
@click.option("--text", help="Only those with this text in their id or name.")
@click.option(
    "--metadata",
    type=CONDITION,
    multiple=True,
    help="Only those whose metadata have this value at this path, as in address.city=Bern; all of several must hold.",
)
@json_option()
@connected()
def list_people(service: Service, text: str | None, metadata: tuple[Condition, ...], as_json: bool) -> None:
    """List people, ordered by id."""
    print_list([_person_row(person) for person in service.people(text, metadata)], as_json)


@people.command()
@click.argument("id")
@json_option("Print a JSON object.")
@connected()
def show(service: Service, id: str, as_json: bool) -> None:
    """Show all that is known of a person."""
    person = _person_row(service.person(id))
    if as_json:
        click.echo(json.dumps(person, indent=2))
        return
    values = {name: json.dumps(value) if name == "metadata" else value for name, value in person.items()}
    print_list([{"what": name.replace("_", " "), "value": value} for name, value in values.items()], as_json=False)


@people.command()
@click.argument("id")
@click.argument("name")
@connected()
def rename(service: Service, id: str, name: str) -> None:
    """Give a person another name; the id stays."""
    service.rename(id, check_name(name))


@people.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everybody", is_flag=True, help="Delete everybody.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connected()
def delete(service: Service, ids: tuple[str, ...], everybody: bool, yes: bool) -> None:
    """Delete people with all their photos and events."""
    if bool(ids) == everybody:
        raise click.UsageError("Name who is to be deleted, or --all.")
    if everybody:
        if not yes:
            click.confirm("Delete everybody?", abort=True, err=True)
        service.clear()
    failed = 0
    for id in ids:
        try:
            service.delete(id)
        except ServiceError as error:
            failed += 1
            remark(f"{id}: {error.message}")
    if failed:
        raise click.ClickException(f"{failed} of {len(ids)} could not be deleted.")


@people.command()
@click.argument("id")
@click.option("--delete", "number", type=click.IntRange(0), help="Delete the photo with this number.")
@json_option()
@connected()
def photos(service: Service, id: str, number: int | None, as_json: bool) -> None:
    """List the samples of a person, or delete one; with the last one the person goes too."""
    if number is not None:
        service.delete_photo(id, number)
        return
    print_list([asdict(photo) for photo in service.photos(id)], as_json)


def _person_row(person: Person) -> dict[str, object]:
    return {
        "id": person.id,
        "name": person.name,
        "photos": person.samples,
        "metadata": person.metadata,
        "action": person.action,
        "created_at": person.created_at,
        "updated_at": person.updated_at,
    }


@click.command(
    epilog="""\b
Examples:
  python -m face_detection events
  python -m face_detection events --person 44 --since 2026-11-28
  python -m face_detection events --kind unknown --device 31 --since 2026-11-28T08:00+01:00 --until 2026-11-28T18:00Z
"""
)
@click.option("--person", metavar="ID", help="Only those of the person with this id.")
@click.option("--kind", type=click.Choice([kind.value for kind in EventKind]), help="Only those of this kind.")
@click.option("--device", type=CODE, help="Only those of the capture device with this code.")
@click.option("--since", type=MOMENT, help="Only what happened at this time or later.")
@click.option("--until", type=MOMENT, help="Only what happened before this time.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most events.")
@json_option()
@connected()
def events(
    service: Service,
    person: str | None,
    kind: str | None,
    device: int | None,
    since: int | None,
    until: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List who was enrolled and recognised, the latest first."""
    which = EventFilter(person, EventKind(kind) if kind else None, device, since, until)
    print_list([_event_row(event) for event in islice(service.events(which, limit), limit)], as_json)


def _event_row(event: Event) -> dict[str, object]:
    return {
        "number": event.number,
        "at": time_text(event.at),
        "kind": event.kind.value,
        "person": event.person,
        "name": event.name,
        "distance": event.distance,
        "device": event.occasion.device,
        "api_key": event.occasion.api_key,
    }
