"""python -m face_detection events"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import click

from face_detection.cli.console import print_list
from face_detection.cli.parameters import CODE, MOMENT, as_json
from face_detection.cli.service.connection import connected
from face_detection.cli.service.protocol import Service
from face_detection.gallery.events import Event, EventFilter, EventKind
from shared.times import time_text


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
@as_json
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
    print_list(list(_rows(islice(service.events(which, limit), limit))), as_json)


def _rows(found: Iterator[Event]) -> Iterator[dict[str, object]]:
    for event in found:
        yield {
            "number": event.number,
            "at": time_text(event.at),
            "kind": event.kind.value,
            "person": event.person,
            "name": event.name,
            "distance": event.distance,
            "device": event.occasion.device,
            "api_key": event.occasion.api_key,
        }
