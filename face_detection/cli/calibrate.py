"""python -m face_detection calibrate"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from face_detection.cli.console import followed, print_list, remark
from face_detection.cli.parameters import detection_option, json_option
from face_detection.cli.pictures import Kind, found_in, people_of, read_picture
from face_detection.cli.service import connected
from face_detection.cli.service.protocol import FAULTS_OF_PICTURES, Encoding, Service
from face_detection.gallery.search.distances import distances, prepare
from shared.calibration import Curve, measure
from shared.errors import InvalidRequest, ServiceError, SpaceMismatch
from shared.models import Effort

MOST_PHOTOS = 3000
"""All pairs of them are held in memory at once."""

_RATES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7)


@click.command(
    epilog="""\b
Examples:
  python -m face_detection calibrate photos/           photos/Ada_Lovelace/1.jpg, photos/Ada_Lovelace/2.jpg, ...
  python -m face_detection calibrate --reset           the model's curve counts again
"""
)
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--reset", is_flag=True, help="Take the model's curve again.")
@detection_option
@json_option("Print the curve as a JSON object.")
@connected()
def calibrate(service: Service, folder: Path | None, reset: bool, detection: Effort | None, as_json: bool) -> None:
    """Measure on photos of one's own how often strangers are nearer than a distance, and let that count.

    In FOLDER a sub-folder is a person with all photos in it, at any depth; a file directly in it is a person too. Of
    several faces in a photo the largest counts. It takes 20 people, 3000 pairs of photos of different people and 30 of
    one person: 20 people with 4 photos each. More people reach smaller rates. Nobody is enrolled; the curve is kept for
    the company and the model in use. Photos that cannot be used are listed on standard error, and the exit code is 1.
    """
    if (folder is None) != reset:
        raise click.UsageError("Give a FOLDER of photos, or --reset.")
    if folder is None:
        service.reset_calibration()
        click.echo("The curve of the model counts again.")
        return
    found = found_in(folder, Kind.PICTURE)
    photos = [(id, photo) for id, own in people_of(found.files, folder).items() for photo in own]
    if len(photos) > MOST_PHOTOS:
        raise InvalidRequest(f"There are {len(photos)} photos; {MOST_PHOTOS} at most are measured at once.")
    service.prepare()
    people, encodings = [], []
    for id, encoding in followed(_encoded(service, photos, detection), len(photos), "photos"):
        if encoding is not None:
            people.append(id)
            encodings.append(encoding)
    curve = _measured(people, encodings)
    service.calibrate(encodings[0].space, encodings[0].metric, curve)
    if as_json:
        click.echo(json.dumps(asdict(curve)))
    else:
        rates = [rate for rate in _RATES if rate > curve.least_rate]
        print_list([_row(curve, rate) for rate in (*rates, curve.least_rate)], as_json=False)
    found.tell()
    failed = len(photos) - len(people)
    found.refuse_loss(f"{failed} of {len(photos)} photos could not be used." if failed else "")


def _encoded(
    service: Service, photos: Sequence[tuple[str, Path]], detection: Effort | None
) -> Iterator[tuple[str, Encoding | None]]:
    for id, file in photos:
        try:
            yield id, service.encode(read_picture(file), detection)
        except ServiceError as error:
            if error.code not in FAULTS_OF_PICTURES:
                raise
            remark(f"{file}: {error.message}")
            yield id, None


def _measured(people: Sequence[str], encodings: Sequence[Encoding]) -> Curve:
    """The curve of encodings.

    Raises:
        TooFewPhotos: see ``calibration.measure``.
        SpaceMismatch: the service has changed its model meanwhile.
    """
    if not encodings:
        return measure(np.empty((0, 0)), people)
    space, metric = encodings[0].space, encodings[0].metric
    if any((one.space, one.metric) != (space, metric) for one in encodings):
        raise SpaceMismatch("The service has changed its model meanwhile: begin again.")
    rows = prepare(np.stack([one.vector for one in encodings]), metric)
    return measure(np.stack([distances(rows, row, metric) for row in rows]), people)


def _row(curve: Curve, rate: float) -> dict[str, object]:
    distance = curve.distance(rate)
    return {
        "false_match_rate": f"{rate:.3g}",
        "distance": f"{distance:.4g}",
        "true_accept_rate": f"{curve.true_accept_rate(distance):.1%}",
    }
