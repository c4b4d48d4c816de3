"""python -m face_detection verify"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from face_detection.cli.parameters import (
    PICTURE,
    detection_option,
    face_option,
    json_option,
    liveness_option,
    threshold_options,
)
from face_detection.cli.pictures import STDIN, read_picture, title
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import How, Service
from shared.calibration import Limit
from shared.errors import ServiceError, about
from shared.models import Effort

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
@threshold_options
@liveness_option
@detection_option
@face_option("--face1", "the first picture")
@face_option("--face2", "the second picture")
@json_option("Print a JSON object.")
@connected(failure=_NOT_COMPARED)
def verify(
    service: Service,
    first: Path,
    second: Path,
    limit: Limit | None,
    liveness: bool,
    detection: Effort | None,
    face1: str | None,
    face2: str | None,
    as_json: bool,
) -> None:
    """Say whether two pictures show one person.

    Of several faces in a picture the one is taken that is large and near to the middle, unless --face1 or --face2 names
    the largest, or a point (in pixels) in the one that is meant. With --liveness both must be of a person before the
    camera.

    The exit code is 0 for the same person, 1 for different ones, and 2 when they could not be compared.
    """
    if first == second == STDIN:
        raise click.UsageError("Only one of the pictures can come from standard input.")
    one, other = _read(first), _read(second)
    service.prepare()
    try:
        found = service.verify(one, other, How(limit, liveness, detection), (face1, face2))
    except ServiceError as error:
        names = {"image1": title(first), "image2": title(second)}
        error.input = names.get(error.input or "", error.input)
        raise
    answer = "same" if found.same else "different"
    if as_json:
        boxes = {"bbox1": str(found.boxes[0]), "bbox2": str(found.boxes[1])}
        known = {
            "same": found.same,
            "distance": found.distance,
            "threshold": found.threshold,
            "false_match_rate": found.false_match_rate,
        }
        qualities = dict(zip(("quality1", "quality2"), found.qualities, strict=True))
        reasons = {"reason": found.reason} if found.reason else {}
        scores = {} if found.liveness is None else dict(zip(("liveness1", "liveness2"), found.liveness, strict=True))
        click.echo(json.dumps(known | boxes | qualities | reasons | scores, indent=2))
    else:
        rate = "" if found.false_match_rate is None else f", false match rate {found.false_match_rate:g}"
        scored = "" if found.liveness is None else ", liveness {:g} and {:g}".format(*found.liveness)
        reason = f", {found.reason}" if found.reason else ""
        click.echo(f"{answer}  distance {found.distance}, threshold {found.threshold:.6g}{rate}{scored}{reason}")
    sys.exit(0 if found.same else _DIFFERENT)


def _read(file: Path) -> bytes:
    with about(title(file)):
        return read_picture(file)
