"""Photos as people really send them: what becomes of them, before and after what the service does about it.

Examples:
    python -m benchmarks.hard
    python -m benchmarks.hard detection
    python -m benchmarks.hard quality --models facenet sface dlib
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2

from benchmarks import hard_detection, hard_quality
from benchmarks.accuracy import FACES
from face_detection.recognition.detection import YuNet
from feature_extraction.embedder import open_embedder
from feature_extraction.weights.store import ensure_detector
from shared.settings import ExtractionSettings, FrontSettings


def detection(folder: Path, models: Sequence[str]) -> Iterator[str]:
    """Faces of every size, turned heads, and what finding them costs; the first model names them."""
    cv2.setNumThreads(1)  # as in the front
    settings = FrontSettings.from_environment()
    ensure_detector(settings.weights)
    extraction = ExtractionSettings.from_environment().model_copy(update={"model": models[0]})
    yield from hard_detection.table(folder, YuNet(settings), settings, open_embedder(extraction, progress=True))


def quality(folder: Path, models: Sequence[str]) -> Iterator[str]:
    """Spoilt photos, enrolled and looked for."""
    cv2.setNumThreads(1)  # as in the front
    settings = FrontSettings.from_environment()
    ensure_detector(settings.weights)
    detector = YuNet(settings)
    embedders = [
        open_embedder(ExtractionSettings.from_environment().model_copy(update={"model": model}), progress=True)
        for model in models
    ]
    yield from hard_quality.unspoilt(folder, detector)
    yield ""
    yield from hard_quality.table(folder, detector, embedders)


PARTS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[str]]] = {
    "detection": detection,
    "quality": quality,
}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--photos", type=Path, default=FACES, metavar="FOLDER", help="with lfw_known and lfw_unknown")
    parser.add_argument("--models", nargs="+", default=["facenet", "sface", "dlib"], metavar="MODEL")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if not arguments.photos.is_dir():
        sys.exit(f"There is no folder {arguments.photos}: name one with --photos.")
    for name in arguments.parts or PARTS:
        print(f"\n## {name}\n")
        for line in PARTS[name](arguments.photos, arguments.models):
            print(line, flush=True)


if __name__ == "__main__":
    main()
