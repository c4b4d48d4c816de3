"""The whole pipeline against its limits and against DeepFace, on photos with one face.

Rounds alternate between the candidates, so that all see the same state of the machine; medians are printed.

- *ideal*: as many processes as cores do nothing but the stages: decode, detect, align, embed, search.
- *service*: the same photos as data URIs through ``POST /face-recognition`` of both services, 8 clients.
- *DeepFace*: as many processes as cores call ``DeepFace.represent`` (Facenet, yunet, ONNX Runtime) and scan the
  gallery with NumPy.
- *engine*: ONNX Runtime alone, at its best batch size, on crops that are ready.
- *embeddings*: ``POST /embeddings`` with one crop a request, 8 clients.

Example:
    python -m benchmarks.pipeline --rounds 3 --seconds 4
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests

from benchmarks.accuracy import FACES, Photo, read_photos
from benchmarks.load import generate, request
from deploy.services import Services
from face_detection.gallery.search.distances import prepare
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from feature_extraction.embedder import network_input, open_embedder
from shared import wire
from shared.images import ImageDecoder, Preview
from shared.models import find_card
from shared.settings import ExtractionSettings, FrontSettings, available_cores

CLIENTS = 8
GALLERY = 1000
BATCHES = (1, 2, 4, 8, 16)

Work = Callable[[bytes], None]


def ideal_work() -> Work:
    """The stages alone, on one thread."""
    cv2.setNumThreads(1)
    front = FrontSettings.from_environment()
    decoder, detector = ImageDecoder(front.max_image_bytes, front.max_image_pixels), YuNet(front)
    embedder = open_embedder(ExtractionSettings.from_environment().model_copy(update={"compute_threads": 1}))
    card = embedder.card
    gallery = prepare(np.random.default_rng(0).standard_normal((GALLERY, card.dimensions), np.float32), card.metric)

    def work(photo: bytes) -> None:
        picture = decoder.preview(photo, front.detection_max_side)
        embeddings = embedder.embed(cut_out(picture, detector.detect(picture), card.alignment))
        (gallery @ prepare(embeddings, card.metric).T).argmax(axis=0)

    return work


def deepface_work() -> Work:
    """What a user of DeepFace would write."""
    os.environ["DEEPFACE_BACKEND_ENGINE"] = "onnx"
    from deepface import DeepFace

    gallery = np.random.default_rng(0).standard_normal((GALLERY, find_card("facenet").dimensions))

    def work(photo: bytes) -> None:
        pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
        found = DeepFace.represent(pixels, model_name="Facenet", detector_backend="yunet", enforce_detection=False)
        for face in found:
            np.linalg.norm(gallery - np.array(face["embedding"]), axis=1).argmin()

    return work


def _worker(make: Callable[[], Work], photos: Sequence[bytes], pipe: Any) -> None:
    work = make()
    for photo in photos[:3]:
        work(photo)
    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            work(photos[count % len(photos)])
            count += 1
        pipe.send(count / (time.perf_counter() - started))


class Processes:
    """As many processes as cores that do the same work, and rest between rounds."""

    def __init__(self, make: Callable[[], Work], photos: Sequence[bytes]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(available_cores()):
            ours, theirs = context.Pipe()
            context.Process(target=_worker, args=(make, photos, theirs), daemon=True).start()
            self._pipes.append(ours)
        for pipe in self._pipes:
            pipe.recv()

    def rate(self, seconds: float) -> float:
        """Photos per second of all together."""
        for pipe in self._pipes:
            pipe.send(seconds)
        return float(sum(pipe.recv() for pipe in self._pipes))

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)


class Engine:
    """ONNX Runtime alone, one run per lane at a time."""

    def __init__(self, crops: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        embedder = open_embedder(ExtractionSettings.from_environment())
        self._run = embedder.parts[0].network.run
        self._lanes = embedder.lanes
        self._input = network_input(crops, embedder.parts[0].card.normalisation)
        self._pool = ThreadPoolExecutor(self._lanes)

    def rate(self, seconds: float) -> float:
        """Crops per second at the best of ``BATCHES``."""
        return max(self._rate(size, seconds / len(BATCHES)) for size in BATCHES)

    def _rate(self, size: int, seconds: float) -> float:
        stop = time.perf_counter() + seconds

        def lane(number: int) -> int:
            count = 0
            while time.perf_counter() < stop:
                self._run(self._input[:size])
                count += size
            return count

        started = time.perf_counter()
        return sum(self._pool.map(lane, range(self._lanes))) / (time.perf_counter() - started)


def recognition_requests(url: str, photos: Sequence[bytes]) -> list[bytes]:
    """Requests as a client of the original service sends them."""
    bodies = [{"image": f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"} for photo in photos]
    return [request(url, "/face-recognition", json.dumps(body).encode(), "application/json") for body in bodies]


def enrolment_seconds(url: str, photos: Sequence[bytes], count: int) -> float:
    """Seconds of one batch of ``count`` photos."""
    batch = [
        {"id": str(i), "name": "Somebody", "image": base64.b64encode(photos[i % len(photos)]).decode()}
        for i in range(count)
    ]
    body = json.dumps(batch).encode()
    started = time.perf_counter()
    answer = requests.post(f"{url}/update-samples", data=body, timeout=900).json()
    assert len(answer["success"]) == count, answer
    return time.perf_counter() - started


def photos_of_one(folder: Path) -> list[tuple[bytes, Photo]]:
    """Photos with one face in the folder, as they are and as they are read.

    Raises:
        SystemExit: there are no photos.
    """
    paths = sorted(folder.glob("*/*.jpg"))
    if not paths:
        sys.exit(f"There are no photos in {folder}; name a folder with --photos.")
    settings = FrontSettings.from_environment()
    detector = YuNet(settings)
    return [
        (path.read_bytes(), photo)
        for path, photo in zip(paths, read_photos(paths, settings), strict=True)
        if len(detector.detect(Preview.full(photo.pixels))) == 1
    ]


def measure(chosen: Sequence[tuple[bytes, Photo]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates a second, and seconds of a request: alone (median), and at half the rate (99th percentile)."""
    photos = [photo for photo, _ in chosen]
    alignment = find_card("facenet").alignment
    crops = np.concatenate(
        [cut_out(Preview.full(one.pixels), [one.face], alignment) for _, one in chosen[:16] if one.face]
    )
    one_crop = wire.encode_array(crops[:1])
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        ideal, deepface = Processes(ideal_work, photos), Processes(deepface_work, photos)
        engine = Engine(crops)
        environment = {**os.environ, "LOG_LEVEL": "WARNING"}
        with Services.on_free_ports(environment, Path(folder)) as services:
            front, extraction = services.front.url, services.extraction.url
            enrolment_seconds(front, photos, min(GALLERY, 64))
            recognitions = recognition_requests(front, photos)
            embeddings = [request(extraction, "/embeddings", one_crop, wire.ARRAY_TYPE)]
            for _ in range(rounds):
                found["ideal"].append(ideal.rate(seconds))
                found["service"].append(generate(front, recognitions, CLIENTS, seconds).rate)
                found["DeepFace"].append(deepface.rate(seconds))
                found["engine"].append(engine.rate(seconds))
                found["embeddings"].append(generate(extraction, embeddings, CLIENTS, seconds).rate)
                found["alone"].append(generate(front, recognitions, 1, seconds).percentile(50))
                half = statistics.median(found["service"]) / 2
                found["loaded"].append(generate(front, recognitions, CLIENTS, seconds, half).percentile(99))
                found["enrolling"].append(GALLERY / enrolment_seconds(front, photos, GALLERY))
        ideal.close()
        deepface.close()
    return found


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="length of a measurement")
    arguments = parser.parse_args()
    chosen = photos_of_one(arguments.photos)
    found = measure(chosen, arguments.rounds, arguments.seconds)
    median = {name: statistics.median(values) for name, values in found.items()}
    print(f"{len(chosen)} photos with one face, {available_cores()} cores, {arguments.rounds} rounds\n")
    print("| | a second (median) | least … most | ratio | bar |\n|---|---|---|---|---|")
    deepface, service, engine = median["DeepFace"], median["service"], median["engine"]
    for name, title, ratio, bar in (
        ("ideal", "stages alone (ideal)", "", ""),
        ("service", "recognitions over HTTP", f"{service / median['ideal']:.2f} of the ideal", "≥ 0.80"),
        ("DeepFace", "DeepFace.represent", f"service {service / deepface:.2f} ×", "≥ 1.7"),
        ("engine", "ONNX Runtime alone, best batch", "", ""),
        ("embeddings", "embeddings over HTTP", f"{median['embeddings'] / engine:.2f}", "≥ 0.90"),
        ("enrolling", f"enrolment, batches of {GALLERY}", f"{median['enrolling'] / service:.2f} of recognition", "≥ 1"),
    ):
        least, most = min(found[name]), max(found[name])
        print(f"| {title} | {median[name]:.1f} | {least:.1f} … {most:.1f} | {ratio} | {bar} |")
    slow, quick = median["loaded"] * 1000, median["alone"] * 1000
    print(
        f"\nOne request at a time takes {quick:.1f} ms (median); at half of the highest rate the 99th percentile "
        f"is {slow:.1f} ms: {slow / quick:.1f} × (bar ≤ 3)."
    )


if __name__ == "__main__":
    main()
