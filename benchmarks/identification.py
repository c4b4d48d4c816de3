"""Naming people: one photo of each of 20 people is enrolled, their other photos and those of strangers are probed.

Through the service's own pipeline, in this process, at each model's default ``min_distance``.

Example:
    python -m benchmarks.identification --models facenet sface dlib
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.accuracy import FACES, embed, read_photos
from face_detection.gallery.distances import distances, prepare
from feature_extraction.embedder import open_embedder
from shared.models import find_card
from shared.settings import ExtractionSettings, FrontSettings


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--strangers", type=Path, default=FACES / "lfw_unknown", help="folder of photos")
    parser.add_argument("--models", nargs="+", default=["facenet", "sface", "dlib"])
    arguments = parser.parse_args()
    for folder in (arguments.known, arguments.strangers):
        if not folder.is_dir():
            sys.exit(f"There is no folder {folder}.")
    front = FrontSettings.from_environment()
    known = read_photos(sorted(arguments.known.glob("*/*.jpg")), front)
    strangers = read_photos(sorted(arguments.strangers.rglob("*.jpg")), front)
    people = [photo.name.split("/")[0] for photo in known]
    enrolled = np.array([people.index(person) == row for row, person in enumerate(people)])
    names = np.array(people)
    print(f"{enrolled.sum()} people, one photo each; {(~enrolled).sum()} probes of them, {len(strangers)} strangers\n")
    print("| model | nearest is right | named right | named wrong | strangers named | min_distance |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        card = find_card(name)
        settings = ExtractionSettings.from_environment().model_copy(update={"model": name})
        network = open_embedder(settings, progress=True).network
        rows = prepare(embed(known + strangers, network, card, name), card.metric)
        table = np.stack([distances(rows[: len(known)][enrolled], row, card.metric) for row in rows])
        nearest, distance = names[enrolled][table.argmin(axis=1)], table.min(axis=1)
        threshold = card.threshold(card.metric).distance
        probes = np.flatnonzero(~enrolled)
        right = nearest[probes] == names[probes]
        named = distance[probes] < threshold
        print(
            f"| {name} | {right.mean():.2%} | {(right & named).mean():.2%} | {(~right & named).sum()} "
            f"| {(distance[len(known) :] < threshold).sum()} | {threshold:g} |"
        )


if __name__ == "__main__":
    main()
