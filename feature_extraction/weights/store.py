"""The weights folder: makes sure that a model's file is there, intact, and in the form that an engine reads.

Three models, the detector and the liveness check come from the package index (``sources``), every other model from
DeepFace's own download (``deepface_files``). For ONNX Runtime the three and the liveness check are converted once,
FaceNet also to 8-bit integers where that is asked for; the result lies beside its source, with a small JSON file that
tells what it was made from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from feature_extraction.weights import deepface_files, facenet_int8, sources
from feature_extraction.weights.files import locked, replacing, sha256_of
from feature_extraction.weights.sources import CarriedFile
from shared.errors import EngineUnavailable, WeightsError
from shared.models import CATALOGUE, ModelCard, NetworkCard
from shared.settings import Precision

log = logging.getLogger(__name__)

_REVISION_LENGTH = 12


@dataclass(frozen=True)
class Weights:
    """A model's weight file.

    Attributes:
        path: the file that the engine reads.
        revision: part of the embedding space: the first 12 hexadecimal digits of the sha256 of the file that the
            weights come from, so that it is the same for every engine. For 8-bit integers "-int8-" and six digits
            that stand for the ranges follow.
        precision: of the network in the file.
    """

    path: Path
    revision: str
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Origin:
    """What a converted file was made from; stored beside it as JSON.

    Attributes:
        source: sha256 of the source file.
        converter: version of the conversion.
        result: sha256 of the converted file.
        ranges: sha256 of the file of ranges that 8-bit integers come from; empty for a network in 32 bits.
    """

    source: str
    converter: int
    result: str
    ranges: str = ""


@dataclass(frozen=True)
class Packaged:
    """A model that comes from the package index.

    Attributes:
        source: the carried file.
        converted: name of the file for ONNX Runtime.
        converter: version of the conversion; a new one makes every old result be converted again.
        convert: writes the second path from the first.
        engines: those that can read the source itself.
        ranges: file of ranges from which a conversion to 8-bit integers takes its scales; others make another network.
    """

    source: CarriedFile
    converted: str
    converter: int
    convert: Callable[[Path, Path], None]
    engines: frozenset[str] = frozenset()
    ranges: Path | None = None

    @property
    def revision(self) -> str:
        """Of the weights that it makes."""
        revision = self.source.sha256[:_REVISION_LENGTH]
        return f"{revision}-int8-{sha256_of(self.ranges)[:6]}" if self.ranges else revision

    @property
    def precision(self) -> Precision:
        """Of the network that it makes."""
        return "int8" if self.ranges else "fp32"

    def origin(self, result: Path) -> Origin:
        """The origin of a file that this conversion has just made."""
        ranges = sha256_of(self.ranges) if self.ranges else ""
        return Origin(self.source.sha256, self.converter, sha256_of(result), ranges)


def _convert_facenet(source: Path, target: Path) -> None:
    from feature_extraction.weights import facenet_h5

    facenet_h5.convert(source, target)


def _convert_sface(source: Path, target: Path) -> None:
    from feature_extraction.weights import graph

    graph.free_batch(source, target)


def _convert_dlib(source: Path, target: Path) -> None:
    from feature_extraction.weights import dlib_onnx

    dlib_onnx.convert(source, target)


def _convert_minifasnet(source: Path, target: Path) -> None:
    from feature_extraction.weights import minifasnet_pth

    minifasnet_pth.convert(source, target)


# FaceNet's converted file has the name under which DeepFace's ONNX client looks for its own. SFace's has not: there
# DeepFace looks for the published file, which is the source.
PACKAGED = {
    "facenet": Packaged(
        sources.FACENET, "facenet_weights.onnx", 1, _convert_facenet, frozenset({"tensorflow", "pytorch"})
    ),
    "sface": Packaged(sources.SFACE, "face_recognition_sface_2021dec.dynamic.onnx", 1, _convert_sface),
    "dlib": Packaged(sources.DLIB, "dlib.onnx", 1, _convert_dlib),
}

INT8 = {
    "facenet": Packaged(
        sources.FACENET, "facenet_weights.int8.onnx", 1, facenet_int8.convert, ranges=facenet_int8.RANGES
    )
}
"""The same with 8-bit integers."""

MINIFASNET = tuple(
    Packaged(source, f"{Path(source.name).stem}.onnx", 1, _convert_minifasnet) for source in sources.MINIFASNET
)
"""The networks of the liveness check."""


def ensure_networks(
    card: ModelCard, engine: str, folder: Path, progress: bool = False, precision: Precision = "fp32"
) -> list[Weights]:
    """The weights of each network of a model, in the order of ``card.networks``; otherwise as ``ensure``.

    With the precision int8 those networks of a combination that do not exist in it stay in 32 bits.
    """
    quantised = _int8(card, engine) if precision == "int8" else {}
    return [
        ensure(network, engine, folder, progress, "int8" if network.name in quantised else "fp32")
        for network in card.networks
    ]


def ensure(
    card: NetworkCard, engine: str, folder: Path, progress: bool = False, precision: Precision = "fp32"
) -> Weights:
    """A network's weights for an engine; fetched, checked and converted as needed.

    Args:
        card: the model.
        engine: onnx, tensorflow or pytorch.
        folder: the weights folder; it is created if need be. It may be read-only if nothing is missing.
        progress: whether a download may show its progress on stderr.
        precision: fp32 or int8.

    Raises:
        WeightsError: the file is missing or damaged and cannot be fetched.
        EngineUnavailable: the model does not exist for that engine or in that precision.
    """
    if precision == "int8":
        return _ensure_converted(_int8(card, engine)[card.name], folder, progress)
    packaged = PACKAGED.get(card.name)
    if packaged is None:
        name = deepface_files.file_name(card, engine)
        if not (folder / name).is_file():
            with locked(folder):
                deepface_files.ensure(card, engine, folder)
        return Weights(folder / name, sha256_of(folder / name)[:_REVISION_LENGTH])
    if engine == "onnx":
        return _ensure_converted(packaged, folder, progress)
    if engine not in packaged.engines:
        raise EngineUnavailable(f"MODEL={card.name} does not exist for ENGINE={engine}; use ENGINE=onnx.")
    return Weights(_ensure_source(packaged.source, folder, progress), packaged.revision)


def _int8(card: ModelCard, engine: str) -> dict[str, Packaged]:
    """The networks of a model that exist with 8-bit integers, by their names; at least one."""

    def quantised(model: ModelCard) -> dict[str, Packaged]:
        return {network.name: INT8[network.name] for network in model.networks if network.name in INT8}

    found = quantised(card)
    if engine != "onnx" or not found:
        able = [name for name, model in CATALOGUE.items() if quantised(model)]
        raise EngineUnavailable(
            f"PRECISION=int8 does not exist for MODEL={card.name} with ENGINE={engine}; "
            f"it does for MODEL={', '.join(able)} with ENGINE=onnx. Or use PRECISION=fp32."
        )
    return found


def ensure_detector(folder: Path, progress: bool = False) -> Path:
    """The path of the face detector's weight file; fetched and checked as ``ensure`` does.

    Raises:
        WeightsError: the file is missing or damaged and cannot be fetched.
    """
    return _ensure_source(sources.YUNET, folder, progress)


def ensure_liveness(folder: Path, progress: bool = False) -> list[Path]:
    """The converted files of the liveness check, in the order of its card; fetched and checked as ``ensure`` does.

    Raises:
        WeightsError: a file is missing or damaged and cannot be fetched.
    """
    return [_ensure_converted(packaged, folder, progress).path for packaged in MINIFASNET]


def is_intact(file: CarriedFile, folder: Path) -> bool:
    """Whether a file is there with the pinned content."""
    path = folder / file.name
    return path.is_file() and sha256_of(path) == file.sha256


def _ensure_source(file: CarriedFile, folder: Path, progress: bool) -> Path:
    path = folder / file.name
    if is_intact(file, folder):
        return path
    with locked(folder):
        if path.is_file():
            if is_intact(file, folder):  # another process has fetched it meanwhile
                return path
            log.warning("%s has not the expected content; fetching it again (the old one becomes *.replaced).", path)
        # These are small, and who needs one needs them all: take them out of an archive that is opened anyway.
        companions = [
            other
            for other in (sources.YUNET, *sources.MINIFASNET)
            if other is not file and set(file.members) & set(other.members) and not (folder / other.name).exists()
        ]
        sources.fetch([file, *companions], folder, progress)
    return path


def origin_file(converted: Path) -> Path:
    """Where the origin of a converted file is stored."""
    return converted.with_name(f"{converted.name}.origin.json")


def _read_origin(converted: Path) -> Origin | None:
    """What a converted file was made from; None if that is not known."""
    try:
        return Origin(**json.loads(origin_file(converted).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_current(packaged: Packaged, folder: Path) -> bool:
    """Whether the converted file is there, intact, and made from the pinned source by this conversion."""
    path = folder / packaged.converted
    return path.is_file() and _read_origin(path) == packaged.origin(path)


def is_foreign(packaged: Packaged, folder: Path) -> bool:
    """Whether somebody else's file bears the converted file's name, such as DeepFace's own download."""
    path = folder / packaged.converted
    return path.is_file() and not origin_file(path).exists()


def _ensure_converted(packaged: Packaged, folder: Path, progress: bool) -> Weights:
    path = folder / packaged.converted
    if is_foreign(packaged, folder):
        return Weights(path, sha256_of(path)[:_REVISION_LENGTH], packaged.precision)
    if not is_current(packaged, folder):
        source = _ensure_source(packaged.source, folder, progress)
        with locked(folder):
            if not is_current(packaged, folder):
                _convert(packaged, source, path)
    return Weights(path, packaged.revision, packaged.precision)


def _convert(packaged: Packaged, source: Path, path: Path) -> None:
    origin = _read_origin(path)
    if path.is_file() and (origin is None or origin.result != sha256_of(path)):
        log.warning("%s is damaged; converting it again.", path)
    else:
        log.info("Converting %s for ONNX Runtime.", source)
    try:
        with replacing(path) as temporary:
            packaged.convert(source, temporary)
            result = packaged.origin(temporary)
            # The origin goes first: a converted file without one would be taken for somebody else's.
            with replacing(origin_file(path)) as note:
                note.write_text(json.dumps(asdict(result), indent=1) + "\n")
    except OSError as error:
        raise WeightsError(f"Cannot write {path.name} to {path.parent}: {error.strerror or error}.") from error
