"""Faces that one look at a picture misses: what is found by that look alone, by ``fast`` and by ``thorough``.

Made of photos with the portrayed in the middle (``lfw_known``), of photos that show nobody (``noface``) and of pictures
in WIDER FACE's format (``wider``).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import central
from benchmarks.detection import LEAST_OVERLAP, read_marks
from face_detection.recognition.crops import cut_out
from face_detection.recognition.detection import YuNet
from face_detection.recognition.views import SCORE, scaled, whole
from feature_extraction.embedder import Embedder
from shared.geometry import Box, Face
from shared.images import ImageDecoder, Pixels, Preview
from shared.settings import FrontSettings

PEOPLE = 20
TIGHT_SIDES = (100, 300, 600, 1024, 2048, 4096)
MARGINS = (0.0, 0.1, 0.25, 0.5)
CANVASES = ((1250, 1000), (2500, 2000), (4000, 3000), (6000, 4000), (8000, 6000), (16000, 2500))
SMALL_FACES = (50, 30)
"""Heights in pixels; in the panorama, the last canvas, twice as large."""
ROUNDS = 5

Boxes = Callable[[Preview], Sequence[Box]]


def ways(detector: YuNet, settings: FrontSettings) -> Mapping[str, Boxes]:
    """One look, as it was; and how the service looks."""

    def one_look(picture: Preview) -> list[Box]:
        view = whole(scaled(picture, settings.detection_max_side))
        rows = view.place(detector.candidates(view.pixels))
        return [Box(*map(round, row[:4])) for row in rows if row[SCORE] >= settings.detection_score]

    return {
        "one look": one_look,
        "fast": lambda picture: [face.box for face in detector.detect(picture, "fast")],
        "thorough": lambda picture: [face.box for face in detector.detect(picture, "thorough")],
    }


def table(folder: Path, detector: YuNet, settings: FrontSettings, embedder: Embedder) -> Iterator[str]:
    """The series, line by line."""
    looks = ways(detector, settings)
    people = sorted((folder / "lfw_known").iterdir())[:PEOPLE]
    photos = [[_read(file) for file in sorted(person.iterdir())] for person in people]
    portraits = [person[0] for person in photos]
    yield f"| | {' | '.join(looks)} |\n|---|---|---|---|"
    for margin in MARGINS:
        for side in TIGHT_SIDES:
            crops = [Preview.full(_tight(portrait, detector, margin, side)) for portrait in portraits]
            found = [sum(bool(look(crop)) for crop in crops) for look in looks.values()]
            yield _row(f"head crops, margin {margin:g}, longer side {side}", found, len(crops))
    for height in SMALL_FACES:
        for size in CANVASES:
            factor = 2 if size == CANVASES[-1] else 1
            canvas, places = _canvas(portraits, detector, size, height * factor)
            found = [_overlapped(places, look(Preview.full(canvas))) for look in looks.values()]
            yield _row(f"faces of {height * factor} px on {size[0]} x {size[1]}", found, len(places))
    decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
    marked = [(Preview.full(decoder.decode(data)), boxes) for data, boxes in read_marks(folder / "wider")]
    found = [sum(_overlapped(boxes, look(picture)) for picture, boxes in marked) for look in looks.values()]
    yield _row("WIDER FACE, from 40 px", found, sum(len(boxes) for _, boxes in marked))
    nobody = [Preview.full(decoder.decode(file.read_bytes())) for file in sorted((folder / "noface").iterdir())]
    yield _row("boxes where nobody is", [sum(len(look(picture)) for picture in nobody) for look in looks.values()])
    yield ""
    yield from _turned(photos, detector, settings, embedder)
    yield ""
    yield from _cost([Preview.full(photo) for photo in portraits], [picture for picture, _ in marked], looks)


def _turned(
    photos: Sequence[Sequence[Pixels]], detector: YuNet, settings: FrontSettings, embedder: Embedder
) -> Iterator[str]:
    """People with one upright photo; their others, turned."""
    card = embedder.card
    threshold = card.threshold(card.metric).distance

    def embedding(photo: Pixels) -> tuple[Face | None, np.ndarray]:
        picture = Preview.full(photo)
        face = central(detector.detect(picture), photo)
        vector = embedder.embed(cut_out(picture, [face] if face else [], card.alignment))
        return face, vector[0] / np.linalg.norm(vector[0]) if face else np.zeros(card.dimensions)

    gallery = np.stack([embedding(person[0])[1] for person in photos])
    yield f"{card.name}, distance below {threshold:g}:\n"
    yield "| heads turned clockwise by | found | with that angle | named right | named wrong |\n|---|---|---|---|---|"
    for angle in (0, 90, 180, 270):
        found = upright = right = wrong = total = 0
        for row, person in enumerate(photos):
            for photo in person[1:]:
                face, vector = embedding(np.ascontiguousarray(np.rot90(photo, -angle // 90)))
                distances = 10 * np.linalg.norm(gallery - vector, axis=1)
                nearest = int(distances.argmin())
                named = face is not None and distances[nearest] < threshold
                total += 1
                found += face is not None
                upright += face is not None and face.angle == angle
                right += named and nearest == row
                wrong += named and nearest != row
        yield f"| {angle} | {found} of {total} | {upright} | {right} | {wrong} |"


def _cost(portraits: Sequence[Preview], scenes: Sequence[Preview], looks: Mapping[str, Boxes]) -> Iterator[str]:
    """Median milliseconds for a picture, and per megapixel; the ways take turns."""
    large = [_enlarged(picture, side) for side in (4000, 8000) for picture in scenes[:3]]
    kinds = {
        "portraits, 250 px": portraits,
        "WIDER FACE, 1024 px": scenes,
        "the same, enlarged to 4000 px": large[:3],
        "to 8000 px": large[3:],
        "nothing in it, 640 x 480": [Preview.full(np.full((480, 640, 3), 127, np.uint8))],
    }
    yield f"| time on one thread | {' | '.join(looks)} |\n|---|---|---|---|"
    for name, pictures in kinds.items():
        times: dict[str, list[float]] = {way: [] for way in looks}
        for _ in range(ROUNDS):
            for picture in pictures:
                for way, look in looks.items():
                    started = time.perf_counter()
                    look(picture)
                    times[way].append(time.perf_counter() - started)
        megapixels = statistics.mean(picture.width * picture.height for picture in pictures) / 1e6
        means = [statistics.median(each) * 1e3 for each in times.values()]
        cells = (f"{ms:.1f} ms, {ms / megapixels:.0f} per MP, {ms / means[0]:.2f}" for ms in means)
        yield f"| {name} | {' | '.join(cells)} |"


def _row(name: str, found: Sequence[int], total: int | None = None) -> str:
    of = "" if total is None else f" of {total}"
    return f"| {name} | {' | '.join(f'{value}{of}' for value in found)} |"


def _read(file: Path) -> Pixels:
    return np.asarray(cv2.imread(str(file)), np.uint8)


def _portrayed(photo: Pixels, detector: YuNet) -> Box:
    face = central(detector.detect(Preview.full(photo)), photo)
    assert face is not None
    return face.box


def _tight(photo: Pixels, detector: YuNet, margin: float, side: int) -> Pixels:
    """The head with so many of its box's sides around it, enlarged."""
    box = _portrayed(photo, detector)
    x, y = round(box.width * margin), round(box.height * margin)
    crop = photo[max(0, box.y - y) : box.y + box.height + y, max(0, box.x - x) : box.x + box.width + x]
    factor = side / max(crop.shape)
    return np.asarray(cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)


def _canvas(
    portraits: Sequence[Pixels], detector: YuNet, size: tuple[int, int], height: int
) -> tuple[Pixels, list[Box]]:
    """Portraits in a grid on gray, with faces of one height, and where these are."""
    width, tall = size
    canvas = np.full((tall, width, 3), 128, np.uint8)
    places = []
    columns = 5
    for index, portrait in enumerate(portraits):
        box = _portrayed(portrait, detector)
        factor = height / box.height
        small = np.asarray(cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        x = (2 * (index % columns) + 1) * width // (2 * columns) - small.shape[1] // 2
        y = (2 * (index // columns) + 1) * tall // (2 * -(-len(portraits) // columns)) - small.shape[0] // 2
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
        sides = (round(value * factor) for value in (box.width, box.height))
        places.append(Box(x + round(box.x * factor), y + round(box.y * factor), *sides))
    return canvas, places


def _enlarged(picture: Preview, side: int) -> Preview:
    factor = side / max(picture.width, picture.height)
    return Preview.full(np.asarray(cv2.resize(picture.pixels, None, fx=factor, fy=factor), np.uint8))


def _overlapped(places: Sequence[Box], boxes: Sequence[Box]) -> int:
    return sum(any(box.iou(place) >= LEAST_OVERLAP for box in boxes) for place in places)
