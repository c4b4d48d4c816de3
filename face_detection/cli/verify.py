"""python -m face_detection verify"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from face_detection.cli.connection import connected
from face_detection.cli.parameters import PICTURE, min_distance_option
from face_detection.cli.pictures import STDIN, read_picture
from face_detection.cli.service import Service

_DIFFERENT = 1
_NOT_COMPARED = 2


@click.command(
    epilog="""\b
Examples:
  python -m face_detection verify passport.jpg visitor.jpg && echo welcome
  curl -s http://camera/snapshot.jpg | python -m face_detection verify owner.jpg -
"""
)
@click.argument("first", type=PICTURE)
@click.argument("second", type=PICTURE)
@min_distance_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@connected(failure=_NOT_COMPARED)
def verify(service: Service, first: Path, second: Path, min_distance: float | None, as_json: bool) -> None:
    """Say whether the largest faces of two pictures are of one person.

    The exit code is 0 for the same person, 1 for different ones, and 2 when they could not be compared.
    """
    if first == second == STDIN:
        raise click.UsageError("Only one of the pictures can come from standard input.")
    service.prepare()
    found = service.verify(read_picture(first), read_picture(second), min_distance)
    answer = "same" if found.same else "different"
    if as_json:
        boxes = {"bbox1": str(found.boxes[0]), "bbox2": str(found.boxes[1])}
        known = {"same": found.same, "distance": found.distance, "threshold": found.threshold}
        click.echo(json.dumps(known | boxes, indent=2))
    else:
        click.echo(f"{answer}  distance {found.distance}, threshold {found.threshold:g}")
    sys.exit(0 if found.same else _DIFFERENT)
