"""The model catalogue: one card per recognition model, and those of the detector and of the liveness check.

A card is what both services must agree on: how a face is cut out (alignment), how its pixels are scaled
(normalisation), how two embeddings are compared (metric) and where the line between "same" and "other" is drawn by
default (threshold). The figures are explained in ``docs/models.md``.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from shared.calibration import Curve, catalogue_curve
from shared.errors import SettingsError
from shared.geometry import Point

Effort = Literal["fast", "thorough"]
"""How hard faces are looked for, see ``docs/performance.md``."""

OnConflict = Literal["report", "refuse"]
"""What becomes of a photo that contradicts others: it is stored and that is told, or it is not stored."""

Template = tuple[Point, Point, Point, Point, Point]

# Five points of a 112 x 112 crop in the order of geometry.Landmarks. Source: the InsightFace project
# (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019).
ARCFACE_TEMPLATE: Template = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

# Where YuNet's landmarks fall in the 150 x 150 chip that dlib cuts out with its own 5-point predictor: the mean
# over 398 photos of LFW.
DLIB_TEMPLATE: Template = ((46.9, 45.7), (102.9, 46.0), (74.1, 77.9), (51.5, 102.5), (99.2, 102.6))


def scaled_template(template: Template, source_size: int, width: int, height: int, zoom: float = 1.0) -> Template:
    """A square template of side ``source_size`` moved into a ``width`` x ``height`` crop.

    It is scaled with the shorter side and centred; ``zoom`` < 1 shrinks it about the centre, which shows
    more of what is around the face.
    """
    scale = min(width, height) / source_size * zoom
    middle = source_size / 2
    first, second, third, fourth, fifth = (
        ((x - middle) * scale + width / 2, (y - middle) * scale + height / 2) for x, y in template
    )
    return (first, second, third, fourth, fifth)


class Metric(StrEnum):
    """How two embeddings a and b are compared; smaller is nearer. â is a at unit length."""

    TENFOLD_UNIT_EUCLIDEAN = "tenfold-unit-euclidean"
    """10 · ‖â − b̂‖, in [0, 20]."""
    COSINE = "cosine"
    """1 − â·b̂, in [0, 2]."""
    EUCLIDEAN = "euclidean"
    """‖a − b‖ of the raw embeddings, ≥ 0."""


class Normalisation(StrEnum):
    """What is done to a crop's pixels (uint8 BGR) before the network sees them."""

    PREWHITEN = "prewhiten"
    """RGB, (x − mean) / max(std, 1/√N) over all N values of the crop (Sandberg's facenet)."""
    DLIB = "dlib"
    """RGB, (x − (122.782, 117.001, 104.298)) / 256 (dlib's input layer)."""
    RGB_255 = "rgb-255"
    """RGB in [0, 255] (OpenCV's FaceRecognizerSF)."""
    BGR_UNIT = "bgr-unit"
    """BGR in [0, 1] (DeepFace's default)."""


@dataclass(frozen=True)
class Alignment:
    """How a crop is cut out: the similarity transform that takes the landmarks nearest to the template.

    Attributes:
        name: part of the embedding space; must change whenever the transform does.
        width, height: size of the crop in pixels.
        template: where the five landmarks should fall, in pixels of the crop.
        parts: of a sheet, see ``sheet``; empty for a single crop.
    """

    name: str
    width: int
    height: int
    template: Template
    parts: tuple[Alignment, ...] = ()

    @property
    def crops(self) -> tuple[Alignment, ...]:
        """How each crop of a face is cut out: itself, or those that lie on a sheet, from the left."""
        return self.parts or (self,)

    def split(self, sheets: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The crops on sheets of this alignment, as views: (n, crop.height, crop.width, 3) for each of ``crops``.

        Args:
            sheets: (n, height, width, 3), or (height, width, 3) for one.
        """
        rights = itertools.accumulate(crop.width for crop in self.crops)
        return [
            sheets[..., : crop.height, right - crop.width : right, :]
            for crop, right in zip(self.crops, rights, strict=True)
        ]


@dataclass(frozen=True)
class Threshold:
    """A default ``min_distance``: a pair matches when its distance is strictly less.

    Attributes:
        distance: in the units of the metric it stands under.
        source: where the figure comes from, with the false match rate (FMR) where it was measured.
    """

    distance: float
    source: str


@dataclass(frozen=True, kw_only=True)
class ModelCard(ABC):
    """One recognition model: a ``NetworkCard``, or a ``Combination`` of several.

    Attributes:
        name: value of the setting MODEL.
        dimensions: length of an embedding.
        alignment: how crops are cut out.
        metric: the default distance.
        thresholds: default ``min_distance`` of every metric that has one; always has ``metric``.
        licence: of the weights.
    """

    name: str
    dimensions: int
    alignment: Alignment
    metric: Metric
    thresholds: Mapping[Metric, Threshold]
    licence: str

    @property
    @abstractmethod
    def networks(self) -> tuple[NetworkCard, ...]:
        """The networks that it runs, in the order of ``alignment.crops``."""

    @property
    @abstractmethod
    def computation(self) -> str:
        """What is computed from crops, in short; part of the embedding space."""

    def space(self, revision: str) -> str:
        """The embedding space: only embeddings with the same one may be compared.

        Args:
            revision: identifies the weights.
        """
        return f"{self.name}/{revision}/{self.alignment.name}/{self.computation}"

    def threshold(self, metric: Metric) -> Threshold:
        """The default threshold under a metric.

        Raises:
            SettingsError: this model has none under that metric.
        """
        try:
            return self.thresholds[metric]
        except KeyError:
            known = ", ".join(self.thresholds)
            raise SettingsError(
                f"Model {self.name} has no default threshold for the distance {metric} (it has {known})."
            ) from None

    def curve(self, metric: Metric) -> Curve | None:
        """How often strangers, and photos of one person, are nearer than a distance; None where it was not measured."""
        return catalogue_curve(self.name, metric)


@dataclass(frozen=True, kw_only=True)
class NetworkCard(ModelCard):
    """A model of one network.

    Attributes:
        deepface_name: the model's name in DeepFace.
        normalisation: how pixels are scaled.
        unit_output: whether the embedding is brought to unit length as DeepFace does for this model.
    """

    deepface_name: str
    normalisation: Normalisation
    unit_output: bool = False

    @property
    @override
    def networks(self) -> tuple[NetworkCard, ...]:
        return (self,)

    @property
    @override
    def computation(self) -> str:
        return str(self.normalisation)


@dataclass(frozen=True)
class Part:
    """A network of a combination, and the weight by which its embeddings count; greater than 0."""

    card: NetworkCard
    weight: float


@dataclass(frozen=True, kw_only=True)
class Combination(ModelCard):
    """A model of several networks, whose embeddings lie side by side.

    With êᵢ the embedding of part i at unit length and wᵢ its weight, the embedding is (w₁ê₁, w₂ê₂, …) at unit length.
    Its cosine similarities are those of the parts, averaged with the weights wᵢ². It has unit length, so all metrics
    tell the same, in units of their own.

    Attributes:
        parts: in the order in which they lie in an embedding, and their crops on a sheet.
        mirrored: whether êᵢ is the mean of the crop's and its mirror image's embeddings, both at unit length, which is
            brought to unit length again.
    """

    parts: tuple[Part, ...]
    mirrored: bool = False

    @property
    @override
    def networks(self) -> tuple[NetworkCard, ...]:
        return tuple(part.card for part in self.parts)

    @property
    @override
    def computation(self) -> str:
        weighted = "+".join(f"{part.card.computation}x{part.weight:g}" for part in self.parts)
        return f"{weighted}-mirrored" if self.mirrored else weighted


@dataclass(frozen=True)
class DetectorCard:
    """The detector's weight file: its name in the weights folder and the sha256 of the accepted content."""

    name: str
    file: str
    sha256: str
    licence: str


YUNET = DetectorCard(
    name="yunet",
    file="face_detection_yunet_2023mar.onnx",
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    licence="MIT",
)


@dataclass(frozen=True)
class LivenessNetwork:
    """One network of a liveness check, and what it looks at.

    Attributes:
        file: the name of its weight file.
        sha256: of the accepted content.
        scale: sides of the part of the picture that it sees, in those of the face's box.
    """

    file: str
    sha256: str
    scale: float


@dataclass(frozen=True)
class LivenessCard:
    """How a face before the camera is told from a picture of one.

    Attributes:
        name: part of what the extraction service says of itself.
        size: width and height of what the networks see, in pixels; BGR, 0 to 255.
        networks: each gives the probability of a real face; the score is their mean, in [0, 1].
        threshold: a face counts as real when its score is at least this.
        source: where the threshold comes from.
        licence: of the weights.
    """

    name: str
    size: int
    networks: tuple[LivenessNetwork, ...]
    threshold: float
    source: str
    licence: str


MINIFASNET = LivenessCard(
    name="minifasnet",
    size=80,
    networks=(
        LivenessNetwork(
            "2.7_80x80_MiniFASNetV2.pth", "a5eb02e1843f19b5386b953cc4c9f011c3f985d0ee2bb9819eea9a142099bec0", 2.7
        ),
        LivenessNetwork(
            "4_0_0_80x80_MiniFASNetV1SE.pth", "84ee1d37d96894d5e82de5a57df044ef80a58be2b218b5ed7cdfd875ec2f5990", 4.0
        ),
    ),
    threshold=0.5,
    source="more likely real than anything else; benchmarks/liveness.py says what passes (docs/liveness.md)",
    licence="Apache-2.0 (Minivision)",
)


def weights_folder(deepface_home: Path) -> Path:
    """The folder in which DeepFace keeps its weight files."""
    return deepface_home / ".deepface" / "weights"


def _arcface_alignment(width: int, height: int, zoom: float = 1.0) -> Alignment:
    zoom_name = "" if zoom == 1.0 else f"x{zoom:g}"
    return Alignment(
        name=f"arcface{zoom_name}-{width}x{height}",
        width=width,
        height=height,
        template=scaled_template(ARCFACE_TEMPLATE, 112, width, height, zoom),
    )


def sheet(alignments: Sequence[Alignment]) -> Alignment:
    """Several crops of one face on one picture: side by side from the left, at the top, black below the lower ones.

    So a face travels as one picture however many networks see it, and each sees the very pixels that it sees alone.
    The template is that of the first crop, which begins where the sheet does.
    """
    return Alignment(
        name="+".join(one.name for one in alignments),
        width=sum(one.width for one in alignments),
        height=max(one.height for one in alignments),
        template=alignments[0].template,
        parts=tuple(alignments),
    )


def _deepface_thresholds(cosine: float, euclidean: float) -> Mapping[Metric, Threshold]:
    source = "DeepFace config/threshold.py; not measured with this alignment"
    return MappingProxyType({Metric.COSINE: Threshold(cosine, source), Metric.EUCLIDEAN: Threshold(euclidean, source)})


def _deepface_card(
    name: str,
    deepface_name: str,
    dimensions: int,
    alignment: Alignment,
    cosine: float,
    euclidean: float,
    licence: str,
) -> NetworkCard:
    return NetworkCard(
        name=name,
        deepface_name=deepface_name,
        dimensions=dimensions,
        alignment=alignment,
        normalisation=Normalisation.BGR_UNIT,
        metric=Metric.COSINE,
        thresholds=_deepface_thresholds(cosine, euclidean),
        licence=licence,
    )


_NETWORKS = (
    NetworkCard(
        name="facenet",
        deepface_name="Facenet",
        dimensions=128,
        alignment=_arcface_alignment(160, 160, zoom=0.95),
        normalisation=Normalisation.PREWHITEN,
        metric=Metric.TENFOLD_UNIT_EUCLIDEAN,
        thresholds=MappingProxyType(
            {
                Metric.TENFOLD_UNIT_EUCLIDEAN: Threshold(9.0, "LFW, 9.16 million impostor pairs: FMR 1.3e-4, TAR 92 %"),
                Metric.COSINE: Threshold(0.405, "9.0²/200, the same operating point"),
                Metric.EUCLIDEAN: Threshold(10.0, "DeepFace config/threshold.py; not measured with this alignment"),
            }
        ),
        licence="MIT (David Sandberg's facenet; converted for Keras by Hiroki Taniai)",
    ),
    NetworkCard(
        name="sface",
        deepface_name="SFace",
        dimensions=128,
        alignment=_arcface_alignment(112, 112),
        normalisation=Normalisation.RGB_255,
        metric=Metric.COSINE,
        thresholds=MappingProxyType(
            {
                Metric.COSINE: Threshold(0.585, "LFW, 9.16 million impostor pairs: FMR 1e-4"),
                Metric.EUCLIDEAN: Threshold(10.734, "DeepFace config/threshold.py; not measured with this alignment"),
            }
        ),
        licence="Apache-2.0 (OpenCV Zoo)",
    ),
    NetworkCard(
        name="dlib",
        deepface_name="Dlib",
        dimensions=128,
        alignment=Alignment("dlib-150x150", 150, 150, DLIB_TEMPLATE),
        normalisation=Normalisation.DLIB,
        metric=Metric.EUCLIDEAN,
        thresholds=MappingProxyType(
            {
                Metric.EUCLIDEAN: Threshold(0.55, "LFW: FMR 1e-3"),
                Metric.COSINE: Threshold(0.07, "DeepFace config/threshold.py; not measured with this alignment"),
            }
        ),
        licence="CC0-1.0 (Davis King)",
    ),
    NetworkCard(
        name="vgg-face",
        deepface_name="VGG-Face",
        dimensions=4096,
        alignment=_arcface_alignment(224, 224, zoom=0.8),
        normalisation=Normalisation.BGR_UNIT,
        metric=Metric.COSINE,
        thresholds=MappingProxyType(
            {
                Metric.COSINE: Threshold(0.4, "the original service's documented value; not measured"),
                Metric.EUCLIDEAN: Threshold(1.17, "DeepFace config/threshold.py; not measured with this alignment"),
            }
        ),
        licence="CC-BY-NC-4.0 (Visual Geometry Group)",
        unit_output=True,
    ),
    NetworkCard(
        name="facenet512",
        deepface_name="Facenet512",
        dimensions=512,
        alignment=_arcface_alignment(160, 160, zoom=0.95),
        normalisation=Normalisation.BGR_UNIT,
        metric=Metric.TENFOLD_UNIT_EUCLIDEAN,
        thresholds=MappingProxyType(
            {
                Metric.TENFOLD_UNIT_EUCLIDEAN: Threshold(9.0, "facenet's value; not measured (DeepFace: 10.4)"),
                Metric.COSINE: Threshold(0.30, "DeepFace config/threshold.py; not measured with this alignment"),
                Metric.EUCLIDEAN: Threshold(23.56, "DeepFace config/threshold.py; not measured with this alignment"),
            }
        ),
        licence="MIT (David Sandberg's facenet)",
    ),
    _deepface_card("arcface", "ArcFace", 512, _arcface_alignment(112, 112), 0.68, 4.15, "MIT (LeonDgang/InsightFace)"),
    _deepface_card(
        "ghostfacenet", "GhostFaceNet", 512, _arcface_alignment(112, 112), 0.65, 35.71, "MIT (GhostFaceNets)"
    ),
    _deepface_card(
        "openface", "OpenFace", 128, _arcface_alignment(96, 96, zoom=0.8), 0.10, 0.55, "Apache-2.0 (OpenFace)"
    ),
    _deepface_card(
        "deepface", "DeepFace", 4096, _arcface_alignment(152, 152, zoom=0.8), 0.23, 64, "MIT (swghosh/DeepFace)"
    ),
    _deepface_card("deepid", "DeepID", 160, _arcface_alignment(47, 55, zoom=0.8), 0.015, 45, "MIT (Ruoyiran/DeepID)"),
)


def _combination(
    name: str, weights: Mapping[str, float], distance: float, accepted: str, mirrored: bool = False
) -> Combination:
    """The card of a combination.

    Args:
        name: of the model.
        weights: name of each network, in their order, and its weight.
        distance: the default threshold as ten times the distance at unit length, facenet's unit: a ``min_distance``
            that clients send then stays of use when another model comes.
        accepted: the true accept rate at that figure.
        mirrored: see ``Combination``.
    """
    named = {card.name: card for card in _NETWORKS}
    parts = tuple(Part(named[network], weight) for network, weight in weights.items())
    source = f"200 photos of LFW, none of 19,340 impostor pairs nearer: FMR below 1e-4, TAR {accepted}"
    same = f"{distance:g} as tenfold-unit-euclidean, the same operating point"
    return Combination(
        name=name,
        dimensions=sum(part.card.dimensions for part in parts),
        alignment=sheet([part.card.alignment for part in parts]),
        metric=Metric.TENFOLD_UNIT_EUCLIDEAN,
        thresholds=MappingProxyType(
            {
                Metric.TENFOLD_UNIT_EUCLIDEAN: Threshold(distance, source),
                Metric.COSINE: Threshold(distance**2 / 200, same),
                Metric.EUCLIDEAN: Threshold(distance / 10, same),
            }
        ),
        licence="; ".join(part.card.licence for part in parts),
        parts=parts,
        mirrored=mirrored,
    )


_COMBINATIONS = (
    _combination("sface+dlib", {"sface": 1, "dlib": 1}, 8.0, "99 %"),
    _combination("facenet+sface", {"facenet": 1, "sface": 1.5}, 10.1, "97.5 %"),
    _combination("best", {"facenet": 1, "sface": 1.5, "dlib": 0.7}, 9.6, "98 %", mirrored=True),
)

CATALOGUE: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in (*_NETWORKS, *_COMBINATIONS)})


def find_card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        SettingsError: the catalogue has no such model.
    """
    try:
        return CATALOGUE[name.strip().lower()]
    except KeyError:
        raise SettingsError(f"MODEL={name} is not in the catalogue: {', '.join(CATALOGUE)}.") from None
