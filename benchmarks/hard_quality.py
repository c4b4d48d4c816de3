"""What becomes of spoilt photos: named right, named wrong and refused, with what quality forbids and without.

People of LFW are enrolled with a photo each; others of theirs, and strangers, are looked for. Every photo is spoilt
step by step. Each step is tried twice: spoilt faces against a clean gallery, and against one that was spoilt alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.choice import main_face
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import Detector
from face_detection.recognition.quality import ENROLMENT, NAMING, REFERENCE, Quality, measure
from feature_extraction.embedder import Embedder
from shared.images import Pixels, Preview

ENROLLED, PROBES = 1, 2
"""Photos of each person who is known."""

EYES = 42
"""Pixels between the eyes in photos of LFW, on average."""

_ORDINARY = 24
"""Pixels between the eyes of a face that a name is expected of."""

Spoil = Callable[[Pixels], Pixels]


def blurred(picture: Pixels, sigma: float) -> Pixels:
    """After a Gaussian, in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def moved(picture: Pixels, length: int) -> Pixels:
    """As a camera shows it that moves by so many pixels, at 30°."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    middle = (length - 1) / 2
    kernel = np.asarray(
        cv2.warpAffine(kernel, cv2.getRotationMatrix2D((middle, middle), 30, 1), (length, length)), np.float32
    )
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def shrunk(picture: Pixels, eyes: float) -> Pixels:
    """So small that the eyes are so many pixels apart."""
    return np.asarray(cv2.resize(picture, None, fx=eyes / EYES, fy=eyes / EYES, interpolation=cv2.INTER_AREA), np.uint8)


def enlarged(picture: Pixels, eyes: float) -> Pixels:
    """The same, and brought back to its size."""
    size = picture.shape[1], picture.shape[0]
    return np.asarray(cv2.resize(shrunk(picture, eyes), size, interpolation=cv2.INTER_CUBIC), np.uint8)


def lit(picture: Pixels, gain: float, offset: float = 0.0, noise: float = 0.0) -> Pixels:
    """Darker or brighter, then with noise; in gray levels."""
    seed = int(picture[::7, ::7].sum(dtype=np.int64))
    levels = (
        picture.astype(np.float64) * gain + offset + np.random.default_rng(seed).normal(0, 1, picture.shape) * noise
    )
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def flattened(picture: Pixels, contrast: float) -> Pixels:
    """With less contrast."""
    return lit(picture, contrast, float(picture.mean()) * (1 - contrast))


def compressed(picture: Pixels, quality: int) -> Pixels:
    """As a JPEG."""
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def tilted(picture: Pixels, degrees: float) -> Pixels:
    """Turned about its middle."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def covered(picture: Pixels, top: float, bottom: float, left: float, right: float, level: int) -> Pixels:
    """With a bar over the face; edges in parts of the picture."""
    height, width = picture.shape[:2]
    hidden = picture.copy()
    hidden[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = level
    return hidden


_LOWER, _EYES, _HALF = (0.52, 0.76, 0.3, 0.7), (0.38, 0.5, 0.3, 0.7), (0.26, 0.76, 0.3, 0.5)

SERIES: Mapping[str, Mapping[str, Spoil]] = {
    "as it is": {"": lambda picture: picture},
    "blur, sigma in pixels": {f"{sigma}": partial(blurred, sigma=sigma) for sigma in (1, 2, 3, 4, 5, 6, 8)},
    "motion, in pixels": {f"{length}": partial(moved, length=length) for length in (9, 15, 25)},
    "size, pixels between the eyes": {f"{eyes}": partial(shrunk, eyes=eyes) for eyes in (24, 16, 14, 12, 10, 8)},
    "enlarged, from pixels between the eyes": {f"{eyes}": partial(enlarged, eyes=eyes) for eyes in (24, 12, 8, 6)},
    "light, gain": {f"{gain}": partial(lit, gain=gain) for gain in (0.5, 0.25, 0.12, 0.06, 2, 3, 5)},
    "contrast": {f"{contrast}": partial(flattened, contrast=contrast) for contrast in (0.3, 0.15, 0.07)},
    "noise, gray levels": {f"{noise}": partial(lit, gain=1, noise=noise) for noise in (10, 20, 40, 60)},
    "JPEG, quality": {f"{quality}": partial(compressed, quality=quality) for quality in (30, 15, 8, 4, 2)},
    "tilt, degrees": {f"{degrees}": partial(tilted, degrees=degrees) for degrees in (15, 30)},
    "covered": {
        "mouth": lambda picture: covered(picture, *_LOWER, 0),
        "mouth, white": lambda picture: covered(picture, *_LOWER, 240),
        "eyes": lambda picture: covered(picture, *_EYES, 0),
        "left half": lambda picture: covered(picture, *_HALF, 0),
    },
    "several": {
        "blur 2, JPEG 10": lambda picture: compressed(blurred(picture, 2), 10),
        "blur 3, gain 0.2": lambda picture: lit(blurred(picture, 3), 0.2),
        "blur 4, noise 10": lambda picture: lit(blurred(picture, 4), 1, 0, 10),
        "size 14, noise 15": lambda picture: lit(shrunk(picture, 14), 1, 0, 15),
        "size 12, JPEG 20": lambda picture: compressed(shrunk(picture, 12), 20),
        "gain 0.25, noise 8": lambda picture: lit(picture, 0.25, 0, 8),
    },
}


@dataclass(frozen=True)
class Photo:
    """A photo of somebody; ``known`` where others of theirs are enrolled."""

    person: str
    known: bool
    pixels: Pixels


@dataclass(frozen=True)
class Spoilt:
    """The main face of a spoilt photo, and its (1, dimensions) embeddings by model."""

    photo: Photo
    quality: Quality
    embeddings: Mapping[str, NDArray[np.float32]]


@dataclass
class Count:
    """Of probes: named right, known people and strangers named wrong, and how many were refused."""

    right: int = 0
    wrong: int = 0
    strangers: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return f"{self.right} / {self.wrong + self.strangers}"


def read(folder: Path) -> tuple[list[Photo], list[Photo]]:
    """Photos to enrol and probes, from the folders ``lfw_known`` and ``lfw_unknown``."""
    enrolled, probes = [], []
    for person in sorted((folder / "lfw_known").iterdir()):
        for number, file in enumerate(sorted(person.iterdir())[: ENROLLED + PROBES]):
            photo = Photo(person.name, True, _pixels(file))
            (enrolled if number < ENROLLED else probes).append(photo)
    strangers = sorted((folder / "lfw_unknown").iterdir())
    return enrolled, probes + [Photo(file.stem, False, _pixels(file)) for file in strangers]


def _pixels(file: Path) -> Pixels:
    return np.asarray(cv2.imread(str(file)), np.uint8)


def faces(photos: Sequence[Photo], spoil: Spoil, detector: Detector, embedders: Sequence[Embedder]) -> list[Spoilt]:
    """The main face of each photo in which one is found."""
    return list(_faces(photos, spoil, detector, embedders))


def _faces(
    photos: Sequence[Photo], spoil: Spoil, detector: Detector, embedders: Sequence[Embedder]
) -> Iterator[Spoilt]:
    for photo in photos:
        picture = Preview.full(spoil(photo.pixels))
        if not (found := detector.detect(picture)):
            continue
        chosen = main_face(found, picture)
        crop = cut_out(picture, chosen, REFERENCE, cv2.BORDER_REPLICATE)[0]
        quality = measure(chosen[0], crop, picture.width, picture.height)
        vectors = {one.card.name: one.embed(cut_out(picture, chosen, one.card.alignment)) for one in embedders}
        yield Spoilt(photo, quality, vectors)


def count(gallery: Sequence[Spoilt], probes: Sequence[Spoilt], embedder: Embedder, limits: bool) -> Count:
    """Name probes by the nearest of a gallery, with or without what quality forbids."""
    card, told = embedder.card, Count()
    known = [one for one in gallery if not (limits and ENROLMENT["auto"].objections(one.quality))]
    threshold = card.threshold(card.metric).distance
    rows = prepare(np.concatenate([one.embeddings[card.name] for one in known]), card.metric) if known else None
    for probe in probes:
        if limits and NAMING.objections(probe.quality):
            told.refused += 1
            continue
        if rows is None:
            continue
        measured = distances(rows, prepare(probe.embeddings[card.name], card.metric)[0], card.metric)
        if measured.min() >= threshold * (probe.quality.tolerance if limits else 1):
            continue
        person = known[int(measured.argmin())].photo.person
        told.right += person == probe.photo.person
        told.wrong += person != probe.photo.person and probe.photo.known
        told.strangers += not probe.photo.known
    return told


def unspoilt(folder: Path, detector: Detector) -> Iterator[str]:
    """Lines of a table: of photos as they are, how many faces would be refused; and what it costs to measure one."""
    yield "| photos | faces of at least 24 pixels between the eyes | not enrolled: auto | strict | not named |"
    yield "|---|---|---|---|---|"
    seconds, count = 0.0, 0
    for name, main_only in (
        ("lfw_known", True),
        ("lfw_unknown", True),
        ("masked", False),
        ("stills", False),
        ("wider", False),
    ):
        qualities = []
        for file in sorted((folder / name).rglob("*.jp*g")):
            picture = Preview.full(_pixels(file))
            found = detector.detect(picture)
            chosen = main_face(found, picture) if main_only and found else found
            started = time.process_time()
            crops = cut_out(picture, chosen, REFERENCE, cv2.BORDER_REPLICATE)
            measured = [
                measure(face, crop, picture.width, picture.height) for face, crop in zip(chosen, crops, strict=True)
            ]
            seconds, count = seconds + time.process_time() - started, count + len(chosen)
            qualities += [quality for quality in measured if quality.eyes >= _ORDINARY]
        refused = [
            sum(bool(limits.objections(quality)) for quality in qualities)
            for limits in (ENROLMENT["auto"], ENROLMENT["strict"], NAMING)
        ]
        yield f"| {name} | {len(qualities)} | {' | '.join(map(str, refused))} |"
    yield f"\nTo cut out and measure a face takes {1e3 * seconds / max(1, count):.2f} ms of one core."


def table(folder: Path, detector: Detector, embedders: Sequence[Embedder]) -> Iterator[str]:
    """Lines of a table, as they are measured."""
    enrolled, probes = read(folder)
    known = sum(photo.known for photo in probes)
    names = [embedder.card.name for embedder in embedders]
    yield f"{len(enrolled)} people enrolled, {known} probes of them, {len(probes) - known} strangers."
    yield "Right / wrong, before → after, against a clean gallery; against one that was spoilt alike."
    yield ""
    yield f"| | step | enrolled | probes refused | {' | '.join(f'{name}: clean | spoilt' for name in names)} |"
    yield f"|---|---|---|---|{'---|---|' * len(names)}"
    clean = faces(enrolled, SERIES["as it is"][""], detector, embedders)
    for series, steps in SERIES.items():
        for step, spoil in steps.items():
            spoilt = faces(enrolled, spoil, detector, embedders)
            sought = faces(probes, spoil, detector, embedders)
            taken = sum(not ENROLMENT["auto"].objections(one.quality) for one in spoilt)
            refused = sum(bool(NAMING.objections(one.quality)) for one in sought)
            cells = [
                f"{count(gallery, sought, embedder, False)} → {count(gallery, sought, embedder, True)}"
                for embedder in embedders
                for gallery in (clean, spoilt)
            ]
            yield f"| {series} | {step} | {taken} of {len(spoilt)} | {refused} of {len(sought)} | {' | '.join(cells)} |"
