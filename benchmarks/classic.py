"""The ``dlib`` model against dlib itself, used as the face_recognition library does.

- *dlib*: ``compute_face_descriptor`` on chips that are ready, on one thread, as dlib runs.
- *engine*: the same network, converted, in ONNX Runtime on the same chips, also on one thread.
- *classic recipe*: as many processes as cores each find faces (HOG), landmarks (5 points) and descriptors with dlib
  and scan the gallery with NumPy.
- *service*: the same photos through ``POST /face-recognition`` with ``MODEL=dlib``, 8 clients.

Example:
    python -m benchmarks.classic --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import FACES
from benchmarks.load import generate
from benchmarks.pipeline import CLIENTS, GALLERY, Processes, Work, recognition_requests
from deploy.services import ROOT, Services
from feature_extraction.embedder import open_embedder
from feature_extraction.weights.sources import DLIB, FACE_RECOGNITION_MODELS, CarriedFile, fetch
from shared.settings import ExtractionSettings

LANDMARKS = CarriedFile(
    "shape_predictor_5_face_landmarks.dat",
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    {
        FACE_RECOGNITION_MODELS: "face_recognition_models-0.3.0/face_recognition_models/models/"
        "shape_predictor_5_face_landmarks.dat"
    },
)
CACHE = ROOT / ".cache" / "benchmarks"


def descriptor_file() -> str:
    """Path of dlib's own weight file."""
    return str(ExtractionSettings.from_environment().weights / DLIB.name)


def classic_work() -> Work:
    """What the face_recognition library does."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(CACHE / LANDMARKS.name))
    network = dlib.face_recognition_model_v1(descriptor_file())
    gallery = np.random.default_rng(0).standard_normal((GALLERY, 128))

    def work(photo: bytes) -> None:
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for box in detector(pixels, 1):
            descriptor = np.array(network.compute_face_descriptor(pixels, landmarks(pixels, box)))
            np.linalg.norm(gallery - descriptor, axis=1).argmin()

    return work


def rate(work: Callable[[], object], crops: int, seconds: float) -> float:
    """Crops per second of repeated calls that each do ``crops``."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        work()
        count += crops
    return count / (time.perf_counter() - started)


def main() -> None:
    """Parse the command line, measure and print."""
    import dlib

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="length of a measurement")
    arguments = parser.parse_args()
    photos = [path.read_bytes() for path in sorted(arguments.photos.glob("*/*.jpg"))]
    if not photos:
        sys.exit(f"There are no photos in {arguments.photos}; name a folder with --photos.")
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (CACHE / LANDMARKS.name).is_file():
        fetch([LANDMARKS], CACHE, progress=True)
    settings = ExtractionSettings.from_environment().model_copy(update={"model": "dlib"})
    embedder = open_embedder(settings, progress=True)
    network = dlib.face_recognition_model_v1(descriptor_file())
    chips = np.random.default_rng(0).integers(0, 256, (16, 150, 150, 3), np.uint8)
    rgb = list(np.ascontiguousarray(chips[..., ::-1]))

    rates: dict[str, list[float]] = {name: [] for name in ("dlib", "engine", "classic", "service")}
    with tempfile.TemporaryDirectory() as folder:
        classic = Processes(classic_work, photos)
        with Services.on_free_ports({**os.environ, "MODEL": "dlib", "LOG_LEVEL": "WARNING"}, Path(folder)) as services:
            requests = recognition_requests(services.front.url, photos)
            for _ in range(arguments.rounds):
                rates["dlib"].append(rate(lambda: network.compute_face_descriptor(rgb[:4]), 4, arguments.seconds))
                rates["engine"].append(rate(lambda: embedder.embed(chips), len(chips), arguments.seconds))
                rates["classic"].append(classic.rate(arguments.seconds))
                rates["service"].append(generate(services.front.url, requests, CLIENTS, arguments.seconds).rate)
        classic.close()
    median = {name: statistics.median(values) for name, values in rates.items()}
    print("| | a second (median) | ratio | bar |\n|---|---|---|---|")
    print(f"| dlib itself, embeddings on one thread | {median['dlib']:.1f} | | |")
    faster = median["engine"] / median["dlib"]
    print(f"| converted, embeddings on one thread | {median['engine']:.1f} | {faster:.1f} × | ≥ 15 |")
    print(f"| classic recipe, photos, a process per core | {median['classic']:.1f} | | |")
    print(f"| service, photos over HTTP | {median['service']:.1f} | {median['service'] / median['classic']:.1f} × | |")


if __name__ == "__main__":
    main()
