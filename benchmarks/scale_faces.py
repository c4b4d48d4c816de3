"""Galleries of real faces among many made-up ones, and probes whose nearest sample is known.

Of each known person three photos are enrolled; probes are the remaining ones, and photos of strangers, each cut out in
several slightly different ways. All other samples are made up: people as far apart as those on the photos, with five
samples each, see ``benchmarks.approximate``. They lie in all directions alike, which is the hardest case, or as
unevenly as the people on the photos. A third kind of probe lies at 0.8 to 0.9 of the unit length from a sample, where
``min_distance`` is.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import FACES, Photo, read_photos
from benchmarks.approximate import DIMENSIONS, beside
from benchmarks.search import METRIC, Vectors, unit_vectors
from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.crops import cut_out
from feature_extraction.embedder import open_embedder
from shared.images import Preview
from shared.models import find_card
from shared.settings import ExtractionSettings, FrontSettings

KINDS = ("enrolled people", "near the threshold", "strangers")
PROBES = 1000
PHOTOS = 3
SAMPLES = 5
_BATCH = 16
_CHUNK = 10_000


class Gallery(NamedTuple):
    """(n, DIMENSIONS) samples at unit length, and for each kind (PROBES, DIMENSIONS) probes and (PROBES,) distances
    from them to the nearest sample."""

    rows: Vectors
    probes: dict[str, Vectors]
    nearest: dict[str, NDArray[np.float64]]


class Faces:
    """Embeddings of the photos. FaceNet's, whatever MODEL is."""

    def __init__(self, folder: Path = FACES) -> None:
        settings = FrontSettings.from_environment()
        known = read_photos(sorted((folder / "lfw_known").glob("*/*.jpg")), settings)
        strangers = read_photos(sorted((folder / "lfw_unknown").rglob("*.jpg")), settings)
        if not known or not strangers:
            raise SystemExit(f"There are no photos in {folder}.")
        people = [photo.name.split("/")[0] for photo in known]
        turns = [people[:row].count(person) for row, person in enumerate(people)]
        self._embedder = open_embedder(
            ExtractionSettings.from_environment().model_copy(update={"model": "facenet"}), progress=True
        )
        self.enrolled = self._embed([photo for photo, turn in zip(known, turns, strict=True) if turn < PHOTOS], 1)
        probes = [photo for photo, turn in zip(known, turns, strict=True) if turn >= PHOTOS]
        self.probes = {KINDS[0]: self._embed(probes, PROBES), KINDS[2]: self._embed(strangers, PROBES)}
        own = self._embed(strangers, len(strangers))
        apart = own @ own.T
        self.mean = prepare(own.mean(axis=0, keepdims=True), METRIC)
        self.alike = float((apart.sum() - len(own)) / (len(own) * (len(own) - 1)))
        """Mean product of two people's embeddings at unit length."""
        self.spread = spread(np.concatenate([own, self.enrolled[::PHOTOS]]))

    def _embed(self, photos: list[Photo], count: int) -> Vectors:
        """At least as many embeddings as there are photos: of each in turn, until there are ``count``."""
        alignment = find_card("facenet").alignment
        crops = [cut_out(Preview.full(one.pixels), [one.face], alignment)[0] for one in photos if one.face]
        numbers = np.random.default_rng(0)
        while len(crops) < count:
            crops.append(_varied(crops[len(crops) % len(photos)], numbers))
        found = [self._embedder.embed(np.stack(crops[at : at + _BATCH])) for at in range(0, len(crops), _BATCH)]
        return prepare(np.concatenate(found), METRIC)


def _varied(crop: NDArray[np.uint8], numbers: np.random.Generator) -> NDArray[np.uint8]:
    """The same face a little turned, scaled, shifted, brighter or darker, and perhaps mirrored."""
    height, width = crop.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    turned = cv2.getRotationMatrix2D(middle, numbers.uniform(-4, 4), numbers.uniform(0.96, 1.04))
    matrix = np.asarray(turned, np.float64)
    matrix[:, 2] += numbers.uniform(-4, 4, 2)
    moved = cv2.warpAffine(crop, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    lit = cv2.convertScaleAbs(moved, alpha=numbers.uniform(0.8, 1.2))
    return np.asarray(cv2.flip(lit, 1) if numbers.random() < 0.5 else lit, np.uint8)


def spread(people: Vectors) -> Vectors:
    """(DIMENSIONS, DIMENSIONS) by which even directions become as uneven as those of some people.

    Few people seem more uneven than all of them are: their covariance has 1/r = 1/d + 1/n, where r = (Σλ)² / Σλ² counts
    the dimensions that n people seem to use, and d those that all do. It is mixed with an even one until it has d.
    """
    covariance = np.cov(people.T)
    covariance /= np.trace(covariance)
    seen = float((covariance**2).sum())
    share = np.sqrt(max(0.0, (seen - 1 / (len(people) - 1) - 1 / DIMENSIONS) / (seen - 1 / DIMENSIONS)))
    values, vectors = np.linalg.eigh(share * covariance + (1 - share) * np.eye(DIMENSIONS) / DIMENSIONS)
    return np.asarray((vectors * np.sqrt(values)).T, np.float32)


def make(faces: Faces, count: int, uneven: bool) -> Gallery:
    """A gallery of ``count`` samples, the made-up ones in all directions alike or as uneven as the photos."""
    others = count - len(faces.enrolled)
    people = -(-others // SAMPLES)
    directions = unit_vectors(people, DIMENSIONS, 0)
    if uneven:
        directions = prepare(directions @ faces.spread, METRIC)
    apart = np.sqrt(faces.alike) * faces.mean + np.sqrt(1 - faces.alike) * directions
    centres = prepare(apart.astype(np.float32), METRIC)
    made_up = beside(np.repeat(centres, SAMPLES, axis=0), (0.36, 0.56), 10)[:others]
    rows = np.concatenate([faces.enrolled, made_up])[np.random.default_rng(20).permutation(count)]
    chosen = rows[np.random.default_rng(30).choice(count, PROBES, replace=count < PROBES)]
    probes = faces.probes | {KINDS[1]: beside(chosen, (0.8, 0.9), 50)}
    return Gallery(rows, probes, {kind: nearest_distances(rows, probes[kind]) for kind in KINDS})


def nearest_distances(rows: Vectors, probes: Vectors) -> NDArray[np.float64]:
    """From each probe to the nearest of all rows, by looking at all."""
    best, position = np.full(len(probes), -np.inf, np.float32), np.zeros(len(probes), np.intp)
    for start in range(0, len(rows), _CHUNK):
        products = probes @ rows[start : start + _CHUNK].T
        better = products.max(axis=1) > best
        best[better] = products.max(axis=1)[better]
        position[better] = start + products.argmax(axis=1)[better]
    pairs = zip(rows[position], probes, strict=True)
    return np.array([distances(row[np.newaxis], probe, METRIC)[0] for row, probe in pairs])
