"""Verification accuracy by the protocol of Labeled Faces in the Wild, through the service's own pipeline.

Every photo is decoded, its face nearest to the middle is detected, aligned and embedded as the services do it.
Reported are the accuracy over ten folds (the threshold of each fold is the best of the other nine; Huang et al.,
2007), and the true accept rate (TAR) at given false match rates (FMR) with the threshold that gives it. The FMR is
counted over all pairs of photos of different people, not only over those of the pairs file. With ``--curves`` the
calibration curves of the models are measured as well, under every metric that their cards have a threshold for, on the
same photos and on those of strangers (``shared.calibration``), and written into the catalogue's file.

Examples:
    python -m benchmarks.accuracy
    python -m benchmarks.accuracy --photos lfw/ --pairs lfw/pairs.txt --models facenet sface sface+dlib
    python -m benchmarks.accuracy --models facenet --zoom 0.9 0.95 1.0 --normalisation prewhiten bgr-unit
    PRECISION=int8 python -m benchmarks.accuracy --models facenet
    python -m benchmarks.accuracy --curves --models facenet sface dlib sface+dlib facenet+sface best
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from feature_extraction.embedder import Embedder, open_embedder
from feature_extraction.weights.store import ensure_detector
from shared import calibration
from shared.geometry import Face
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import (
    ARCFACE_TEMPLATE,
    Alignment,
    Metric,
    ModelCard,
    NetworkCard,
    Normalisation,
    find_card,
    scaled_template,
)
from shared.settings import ExtractionSettings, FrontSettings

FACES = Path(__file__).resolve().parent.parent.parent / "shared" / "faces"
CURVES = Path(__file__).resolve().parent.parent / "shared" / "curves.json"
FOLDS = 10
RATES = (1e-3, 1e-4)
CURVE_RATES = (1e-2, 1e-3, 1e-4, 2e-5)


@dataclass(frozen=True)
class Pair:
    """Two photos, relative to the data set's folder, and whether they show the same person."""

    first: str
    second: str
    same: bool


@dataclass(frozen=True)
class Photo:
    """A photo and the face that it is about; None when none was detected."""

    name: str
    pixels: Pixels
    face: Face | None


@dataclass(frozen=True)
class Trial:
    """A model as its card has it, or with another alignment, normalisation or metric."""

    label: str
    card: ModelCard
    metric: Metric


@dataclass(frozen=True)
class Result:
    """What was measured of a trial. Thresholds and TARs belong to ``RATES``."""

    trial: Trial
    accuracy: float
    deviation: float
    thresholds: Sequence[float]
    accept_rates: Sequence[float]
    default: float
    default_tar: float
    default_fmr: float
    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]


def read_pairs(file: Path) -> list[Pair]:
    """Read LFW's official ``pairs.txt``, or tab-separated lines of two paths and 1 or 0."""
    lines = [line.split("\t") for line in file.read_text().splitlines() if line.strip()]
    if lines and len(lines[0]) <= 2:
        lines = lines[1:]
    pairs = []
    for line in lines:
        match line:
            case [first, second, ("0" | "1") as same] if "/" in first:
                pairs.append(Pair(first, second, same == "1"))
            case [person, one, other] if one.isdigit() and other.isdigit():
                pairs.append(Pair(_official(person, one), _official(person, other), True))
            case [person, one, stranger, other] if one.isdigit() and other.isdigit():
                pairs.append(Pair(_official(person, one), _official(stranger, other), False))
            case _:
                sys.exit(f"{file} has a line that is no pair: {line}")
    return pairs


def _official(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}.jpg"


def read_photos(paths: Sequence[Path], settings: FrontSettings) -> list[Photo]:
    """Decode photos and find their faces; a photo is named for its folder and file."""
    settings.weights.mkdir(parents=True, exist_ok=True)
    ensure_detector(settings.weights, progress=True)
    decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
    detector = YuNet(settings)
    photos = []
    for path in tqdm(paths, desc="detect", unit="photo"):
        pixels = decoder.decode(path.read_bytes())
        photos.append(
            Photo(f"{path.parent.name}/{path.name}", pixels, central(detector.detect(Preview.full(pixels)), pixels))
        )
    return photos


def central(faces: Sequence[Face], pixels: Pixels) -> Face | None:
    """In LFW the face in the middle is the one that has the name."""
    middle = np.array([pixels.shape[1], pixels.shape[0]]) / 2
    return min(
        faces,
        key=lambda face: float(
            np.hypot(*(middle - [face.box.x + face.box.width / 2, face.box.y + face.box.height / 2]))
        ),
        default=None,
    )


def embed(photos: Sequence[Photo], embedder: Embedder, label: str) -> NDArray[np.float32]:
    """Embeddings (n, dimensions) of the photos' faces; a photo without one is aligned as if it were a crop."""
    rows = []
    for start in tqdm(range(0, len(photos), 16), desc=label, unit="batch"):
        crops = [crop_of(photo, embedder.card.alignment) for photo in photos[start : start + 16]]
        rows.append(embedder.embed(np.concatenate(crops)))
    return np.concatenate(rows)


def crop_of(photo: Photo, alignment: Alignment) -> Pixels:
    """The photo's face as a batch of one crop, (1, height, width, 3) uint8 BGR."""
    if photo.face is None:
        whole = np.zeros((1, alignment.height, alignment.width, 3), np.uint8)
        for crop in alignment.split(whole[0]):
            crop[...] = cv2.resize(photo.pixels, (crop.shape[1], crop.shape[0]))
        return whole
    return cut_out(Preview.full(photo.pixels), [photo.face], alignment)


def measure(trial: Trial, photos: Sequence[Photo], pairs: Sequence[Pair], embeddings: NDArray[np.float32]) -> Result:
    """Accuracy, thresholds and rates of a trial."""
    row_of = {photo.name: row for row, photo in enumerate(photos)}
    rows = prepare(embeddings, trial.metric)
    table = np.stack([distances(rows, row, trial.metric) for row in rows])
    first = np.array([row_of[pair.first] for pair in pairs])
    second = np.array([row_of[pair.second] for pair in pairs])
    same = np.array([pair.same for pair in pairs])
    accuracy = fold_accuracies(table[first, second], same)
    genuine, impostor = _all_pairs(table, photos)
    genuine_of_file = table[first, second][same]
    thresholds = [float(np.quantile(impostor, rate, method="lower")) for rate in RATES]
    default = trial.card.thresholds[trial.metric].distance if trial.metric in trial.card.thresholds else float("nan")
    return Result(
        trial,
        float(accuracy.mean()),
        float(accuracy.std()),
        thresholds,
        [float((genuine_of_file < threshold).mean()) for threshold in thresholds],
        default,
        float((genuine_of_file < default).mean()),
        float((impostor < default).mean()),
        genuine,
        impostor,
    )


def fold_accuracies(pair_distances: NDArray[np.float64], same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Accuracy (FOLDS,) of each fold, at the threshold that is best on the others.

    Folds take genuine and impostor pairs in their order, equal parts of both.
    """
    fold = np.empty(len(same), int)
    for kind in (True, False):
        members = np.flatnonzero(same == kind)
        fold[members] = np.arange(len(members)) * FOLDS // len(members)
    values = np.unique(pair_distances)
    gaps = np.diff(values)
    candidates = values[:-1] + gaps / 2
    right = (pair_distances[None] < candidates[:, None]) == same[None]
    accuracies = []
    for number in range(FOLDS):
        scores = right[:, fold != number].sum(axis=1)
        # Many thresholds tie on few pairs; the one farthest from any pair is the least accidental.
        best = np.where(scores == scores.max(), gaps, 0).argmax()
        accuracies.append(right[best, fold == number].mean())
    return np.array(accuracies)


def _all_pairs(table: NDArray[np.float64], photos: Sequence[Photo]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    people = np.array([photo.name.split("/")[0] for photo in photos])
    above = np.triu_indices(len(photos), 1)
    same = people[above[0]] == people[above[1]]
    return table[above][same], table[above][~same]


def curves_of(
    card: ModelCard, photos: Sequence[Photo], strangers: Sequence[Photo], embeddings: NDArray[np.float32]
) -> dict[Metric, calibration.Curve]:
    """The calibration curves of a model.

    Args:
        card: of the model; its thresholds say under which metrics.
        photos: of people, in folders of their names.
        strangers: of one further person each.
        embeddings: (n, dimensions) of the photos, then of the strangers.
    """
    people = [photo.name.split("/")[0] for photo in photos] + [photo.name for photo in strangers]
    curves = {}
    for metric in card.thresholds:
        rows = prepare(embeddings, metric)
        curves[metric] = calibration.measure(np.stack([distances(rows, row, metric) for row in rows]), people)
    return curves


def write_curves(measured: Mapping[str, Mapping[Metric, calibration.Curve]], file: Path) -> None:
    """Put curves into a file beside those of other models."""
    stored = json.loads(file.read_text()) if file.exists() else {}
    for model, own in measured.items():
        stored[model] = {metric: asdict(curve) for metric, curve in own.items()}
    text = json.dumps(dict(sorted(stored.items())), indent=1)
    # A point on a line.
    file.write_text(re.sub(r"\[\s+([\d.e-]+),\s+([\d.e-]+),\s+([\d.e-]+)\s+\]", r"[\1, \2, \3]", text) + "\n")


def report_curves(measured: Mapping[str, Mapping[Metric, calibration.Curve]]) -> str:
    """The curves as Markdown."""
    lines = [
        "| model | distance | pairs of different people | "
        + " | ".join(f"distance at FMR {rate:g} (TAR)" for rate in CURVE_RATES)
        + " |",
        "|---|---|---|" + "---|" * len(CURVE_RATES),
    ]
    for model, own in measured.items():
        for metric, curve in own.items():
            found = [curve.distance(rate) for rate in CURVE_RATES]
            cells = " | ".join(f"{distance:.4g} ({curve.true_accept_rate(distance):.1%})" for distance in found)
            lines.append(f"| {model} | {metric} | {curve.impostor_pairs} | {cells} |")
    return "\n".join(lines)


def plot(results: Sequence[Result], file: Path) -> None:
    """Save the ROC curves: TAR over FMR, both over all pairs of photos."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for result in results:
        thresholds = np.unique(result.genuine)
        axes.plot(
            np.searchsorted(np.sort(result.impostor), thresholds) / len(result.impostor),
            np.searchsorted(np.sort(result.genuine), thresholds, side="right") / len(result.genuine),
            label=result.trial.label,
        )
    axes.set(xlabel="false match rate", ylabel="true accept rate", ylim=(0.8, 1.005))
    axes.set_xscale("symlog", linthresh=1e-4)
    axes.set_xlim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def report(results: Sequence[Result], photos: Sequence[Photo], pairs: Sequence[Pair]) -> str:
    """The results as Markdown."""
    missed = sum(photo.face is None for photo in photos)
    impostors = len(results[0].impostor)
    rates = " | ".join(f"TAR at FMR {rate:g} (threshold)" for rate in RATES)
    lines = [
        f"{len(photos)} photos ({missed} without a detected face), {len(pairs)} pairs; "
        f"FMR over {impostors} impostor pairs, so nothing below {1 / impostors:.1g} can be told.",
        "",
        f"| model | accuracy | {rates} | at the default min_distance: TAR, FMR |",
        "|---|---|" + "---|" * len(RATES) + "---|",
    ]
    for result in results:
        cells = " | ".join(
            f"{rate:.2%} ({threshold:.3f})"
            for rate, threshold in zip(result.accept_rates, result.thresholds, strict=True)
        )
        lines.append(
            f"| {result.trial.label} | {result.accuracy:.2%} ± {result.deviation:.2%} | {cells} "
            f"| {result.default:g}: {result.default_tar:.2%}, {result.default_fmr:.1e} |"
        )
    return "\n".join(lines)


def trials(arguments: argparse.Namespace, precision: str) -> list[Trial]:
    """Every combination of the models, zooms, normalisations and metrics that were asked for, labelled."""
    combinations = []
    for name in arguments.models:
        card = find_card(name)
        if not isinstance(card, NetworkCard) and (arguments.zoom or arguments.normalisation):
            sys.exit(f"{name} has several networks: another zoom or normalisation can be tried with each alone.")
        for zoom, normalisation, metric in itertools.product(
            arguments.zoom or [None], arguments.normalisation or [None], arguments.metric or [None]
        ):
            label = [name, precision]
            varied = card
            if zoom is not None:
                width, height = card.alignment.width, card.alignment.height
                template = scaled_template(ARCFACE_TEMPLATE, 112, width, height, zoom)
                varied = replace(varied, alignment=replace(card.alignment, template=template))
                label.append(f"zoom {zoom:g}")
            if normalisation is not None:
                varied = replace(varied, normalisation=Normalisation(normalisation))
                label.append(normalisation)
            if metric is not None:
                label.append(metric)
            combinations.append(Trial(", ".join(label), varied, Metric(metric or card.metric)))
    return combinations


def main() -> None:
    """Parse the command line, measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--pairs", type=Path, default=FACES / "lfw_dev_pairs.tsv", help="pairs file")
    parser.add_argument("--models", nargs="+", default=["facenet", "sface", "dlib"])
    parser.add_argument("--zoom", nargs="+", type=float, help="try ArcFace's template, scaled by each of these")
    parser.add_argument("--normalisation", nargs="+", choices=list(Normalisation), help="try each of these")
    parser.add_argument("--metric", nargs="+", choices=list(Metric), help="try each of these")
    parser.add_argument(
        "--curves",
        nargs="?",
        type=Path,
        const=CURVES,
        metavar="FILE",
        help="also measure calibration curves and put them into FILE (default: the catalogue's)",
    )
    parser.add_argument(
        "--strangers", type=Path, default=FACES / "lfw_unknown", help="for the curves: a photo of another person each"
    )
    parser.add_argument("--plot", type=Path, default=Path("build/accuracy/roc.png"))
    arguments = parser.parse_args()
    if not arguments.photos.is_dir():
        sys.exit(f"There is no folder {arguments.photos}; name LFW's with --photos, and its pairs.txt with --pairs.")
    pairs = read_pairs(arguments.pairs)
    photos = read_photos(sorted(arguments.photos.glob("*/*.jpg")), FrontSettings.from_environment())
    strangers = []
    if arguments.curves:
        strangers = read_photos(sorted(arguments.strangers.glob("*.jpg")), FrontSettings.from_environment())
    results, curves = [], {}
    settings = ExtractionSettings.from_environment()
    for trial in trials(arguments, settings.precision):
        embedder = open_embedder(settings.model_copy(update={"model": trial.card.name}))
        if isinstance(trial.card, NetworkCard):
            embedder = Embedder(trial.card, embedder.engine, [replace(embedder.parts[0], card=trial.card)])
        embeddings = embed([*photos, *strangers], embedder, trial.label)
        results.append(measure(trial, photos, pairs, embeddings[: len(photos)]))
        if arguments.curves:
            curves[trial.card.name] = curves_of(trial.card, photos, strangers, embeddings)
    plot(results, arguments.plot)
    print(report(results, photos, pairs))
    if arguments.curves:
        write_curves(curves, arguments.curves)
        print(f"\n{report_curves(curves)}\n\nCurves: {arguments.curves}")
    print(f"\nROC curves: {arguments.plot}")


if __name__ == "__main__":
    main()
