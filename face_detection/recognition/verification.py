"""Whether two faces are one person's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.search.distances import distances, prepare
from face_detection.recognition.decision import trust
from shared.geometry import Face
from shared.models import Metric


@dataclass(frozen=True)
class Verification:
    """Whether two pictures show the same person: ``distance`` < ``threshold``; ``trust`` is 0 to 100."""

    same: bool
    distance: float
    threshold: float
    trust: float
    faces: Sequence[Face]


def compare(embeddings: NDArray[np.float32], metric: Metric, threshold: float, faces: Sequence[Face]) -> Verification:
    """The first embedding against the nearest of the others.

    Args:
        embeddings: (at least 2, dimensions) float32.
        metric: how they are compared.
        threshold: below which a distance counts as the same person.
        faces: where the faces are.
    """
    rows = prepare(embeddings, metric)
    distance = float(distances(rows[1:], rows[0], metric).min())
    return Verification(distance < threshold, distance, threshold, trust(distance, threshold), faces)
