"""Naming people: some photos of each person are enrolled, other photos of them and those of strangers are probed.

Through the service's own pipeline, in this process, at each model's default ``min_distance``. The first table enrols
one photo and probes all others. The second compares the rules of decision with more photos, on the same probes: those
after the fifth of each person.

Example:
    python -m benchmarks.identification --models facenet sface dlib
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import FACES, embed, read_photos
from face_detection.gallery.people import Person, Sample
from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.decision import Candidate, Rule, decide
from feature_extraction.embedder import open_embedder
from shared.models import find_card
from shared.settings import ExtractionSettings, FrontSettings

PHOTOS = (1, 3, 5)
NEIGHBOURS = 5
EMPTY = np.empty(0, np.float32)

Table = NDArray[np.float64]
Rows = NDArray[np.intp]
Names = NDArray[np.str_]


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
    turns = np.array([people[:row].count(person) for row, person in enumerate(people)])
    names = np.array(people)
    print(
        f"{len(set(people))} people, one photo each; {(turns > 0).sum()} probes of them, {len(strangers)} strangers\n"
    )
    print("| model | nearest is right | named right | named wrong | strangers named | min_distance |")
    print("|---|---|---|---|---|---|")
    rules = []
    for name in arguments.models:
        card = find_card(name)
        settings = ExtractionSettings.from_environment().model_copy(update={"model": name})
        rows = prepare(embed(known + strangers, open_embedder(settings, progress=True), name), card.metric)
        threshold = card.threshold(card.metric).distance
        table = np.stack([distances(rows[: len(known)], row, card.metric) for row in rows])
        first = np.flatnonzero(turns == 0)
        nearest = names[first][table[: len(known), first].argmin(axis=1)][turns > 0] == names[turns > 0]
        counts = outcome(table, names, first, np.flatnonzero(turns > 0), threshold, "nearest")
        print(f"| {name} | {nearest.mean():.2%} | {counts} | {threshold:g} |")
        for photos in PHOTOS:
            enrolled, probes = np.flatnonzero(turns < photos), np.flatnonzero(turns >= max(PHOTOS))
            for rule in get_args(Rule):
                counts = outcome(table, names, enrolled, probes, threshold, rule)
                rules.append(f"| {name} | {photos} | {rule} | {counts} |")
        mistaken = np.where(turns == 1, np.roll(names, -turns.max() - 1), names)
        for rule in get_args(Rule):
            counts = outcome(table, names, enrolled, probes, threshold, rule, mistaken)
            rules.append(f"| {name} | {photos}, one of somebody else | {rule} | {counts} |")
    probes = (turns >= max(PHOTOS)).sum()
    print(f"\nRules of decision: {probes} probes of them, {len(strangers)} strangers, {NEIGHBOURS} votes\n")
    print("| model | photos of each | rule | named right | named wrong | strangers named |\n|---|---|---|---|---|---|")
    print("\n".join(rules))


def outcome(
    table: Table,
    names: Names,
    enrolled: Rows,
    probes: Rows,
    threshold: float,
    rule: Rule,
    labels: Names | None = None,
) -> str:
    """What becomes of the probes, and of the rows after the known ones, as cells of a table.

    ``labels`` are the names under which the rows are enrolled, where they are not the true ones.
    """
    people = [Person(str(name), "", None, None, 1, "", "") for name in (names if labels is None else labels)]

    def named(probe: int) -> str | None:
        nearest = enrolled[table[probe, enrolled].argsort(kind="stable")[:NEIGHBOURS]]
        candidates = [
            Candidate(Sample(int(row), int(row), 0, 0, "", people[row], EMPTY), float(table[probe, row]))
            for row in nearest
        ]
        winner = decide(candidates, threshold, rule)
        return winner.sample.person.id if winner else None

    answers = [(named(probe), names[probe]) for probe in probes]
    right = sum(answer == truth for answer, truth in answers) / len(answers)
    wrong = sum(answer not in (None, truth) for answer, truth in answers)
    strangers = sum(named(row) is not None for row in range(len(names), len(table)))
    return f"{right:.2%} | {wrong} | {strangers}"


if __name__ == "__main__":
    main()
