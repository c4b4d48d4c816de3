"""What the liveness check takes for real, and what for a picture: real faces, and the same on screens and on paper.

Screens and prints are rendered: a photo on a display of red, green and blue stripes, or printed with ink on paper that
is not evenly lit, before a background, slightly turned and tilted, and all of that seen by a camera whose pixels
average the light that falls on them, with blur, noise and JPEG. ``camera`` is the same camera in front of the photo's
own scene, so that the camera alone is not mistaken for what it sees. Real attacks have other screens, printers, lenses
and people who take pains.

Example:
    python -m benchmarks.liveness --faces FOLDER --save build/liveness
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import FACES
from face_detection.recognition.detection import YuNet
from face_detection.recognition.liveness import views
from feature_extraction.liveness import LivenessCheck, open_liveness
from feature_extraction.weights.store import ensure_detector
from shared.geometry import largest
from shared.images import Pixels, Preview
from shared.models import MINIFASNET
from shared.settings import ExtractionSettings, FrontSettings

Light = NDArray[np.float32]
"""(height, width, 3), linear, blue first; 1 is white."""

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
GAMMA = 2.2
LEAST_FACE = 48
"""Pixels of the shorter side of the faces that are counted."""

_STRIPES = 6
"""Fine pixels for each pixel of a display: two for each colour, with a dark row between the lines."""

_SENSOR = 3
"""Samples for each pixel of the camera and axis."""


def light_of(pixels: Pixels) -> Light:
    """What a display shows."""
    return np.asarray((pixels / np.float32(255)) ** GAMMA, np.float32)


class Studio:
    """Takes pictures of photos.

    Args:
        rng: of everything that differs from picture to picture.
        backgrounds: what may be behind; grey when there are none.
    """

    def __init__(self, rng: np.random.Generator, backgrounds: Sequence[Pixels]) -> None:
        self._rng = rng
        self._backgrounds = backgrounds

    def camera(self, light: Light) -> Pixels:
        """What a camera makes of light that falls on its pixels."""
        light = cv2.GaussianBlur(light, (0, 0), 0.6) * np.float32(self._rng.uniform(0.9, 1.2))
        noise = self._rng.standard_normal(light.shape, np.float32) * np.sqrt(np.maximum(light, 0.02))
        pixels = 255 * np.clip(light + 0.008 * noise, 0, 1) ** (1 / GAMMA)
        _, encoded = cv2.imencode(".jpg", pixels.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)

    def screen(self, photo: Pixels, pitch: float, frame: float = 0.06, fill: float = 0.85) -> Pixels:
        """A photo on a display.

        Args:
            photo: one of its pixels is one of the display's.
            pitch: pixels of the camera for each of the display's.
            frame: its width in widths of the photo.
            fill: sides of the display in those of the picture; more than 1 leaves neither frame nor background.
        """
        stripes = np.zeros((_STRIPES, _STRIPES, 3), np.float32)
        for colour in range(3):  # red is on the left, and last
            stripes[:-1, 2 * (2 - colour) : 2 * (3 - colour), colour] = 1
        stripes /= stripes.mean((0, 1))
        fine = light_of(photo).repeat(_STRIPES, 0).repeat(_STRIPES, 1)
        fine *= np.tile(stripes, (*photo.shape[:2], 1))
        fine = fine * np.float32(self._rng.uniform(0.7, 1)) + np.float32(self._rng.uniform(0.01, 0.04))  # reflections
        return self._shot(_bordered(fine, frame, (0.01, 0.01, 0.01)), pitch / _STRIPES, fill, tilt=0.02)

    def paper(self, photo: Pixels, pitch: float, border: float = 0.12, fill: float = 0.8) -> Pixels:
        """A photo on paper: fewer shades, grain, and light from one side; arguments as for ``screen``."""
        ink = cv2.resize(light_of(photo), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC).clip(0, 1)
        ink = (0.05 + 0.85 * ink) * (1 + np.float32(0.03) * self._rng.standard_normal(ink.shape, np.float32))
        sheet = _bordered(ink, border, (0.86, 0.9, 0.92))
        down, across = np.mgrid[-0.5 : 0.5 : sheet.shape[0] * 1j, -0.5 : 0.5 : sheet.shape[1] * 1j]
        toward = self._rng.uniform(-1, 1, 2)
        shade = 0.75 + 0.3 * (toward[0] * across + toward[1] * down)
        lamp = np.array([self._rng.uniform(0.85, 1), 0.97, 1])
        return self._shot(np.asarray(sheet * shade[..., None] * lamp, np.float32), pitch / 2, fill, tilt=0.03)

    def _shot(self, surface: Light, scale: float, fill: float, tilt: float) -> Pixels:
        """A picture of something flat; ``scale`` is pixels of the camera for each of the surface's."""
        high, wide = surface.shape[:2]
        width, height = int(wide * scale / fill), int(high * scale / fill)
        angle = np.deg2rad(self._rng.uniform(-7, 7))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [wide * scale / 2, high * scale / 2]
        corners = corners * (1 + self._rng.uniform(-tilt, tilt, (4, 2))) @ turn.T
        corners += np.array([width, height]) * (0.5 + self._rng.uniform(-0.03, 0.03, 2))
        outline = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
        matrix = cv2.getPerspectiveTransform(outline, np.asarray(corners * _SENSOR, np.float32))
        coarser = 1 / (scale * _SENSOR)
        if coarser > 1:
            surface = np.asarray(cv2.GaussianBlur(surface, (0, 0), coarser / 2.5), np.float32)
        light, shown = (
            cv2.resize(
                cv2.warpPerspective(one, matrix, (width * _SENSOR, height * _SENSOR)),
                (width, height),
                interpolation=cv2.INTER_AREA,
            )
            for one in (surface, np.ones(surface.shape[:2], np.float32))
        )
        behind = self._background(width, height) * (1 - shown[..., None])
        return self.camera(np.asarray(light + behind, np.float32))

    def _background(self, width: int, height: int) -> Light:
        if not self._backgrounds:
            return np.full((height, width, 3), 0.2, np.float32)
        chosen = self._backgrounds[self._rng.integers(len(self._backgrounds))]
        blurred = cv2.GaussianBlur(cv2.resize(chosen, (width, height)), (0, 0), width / 200)
        return light_of(np.asarray(blurred, np.uint8)) * np.float32(self._rng.uniform(0.3, 0.8))


def _bordered(surface: Light, share: float, colour: tuple[float, float, float]) -> Light:
    width = round(surface.shape[1] * share)
    edges = (width, width, width, width)
    return np.asarray(cv2.copyMakeBorder(surface, *edges, cv2.BORDER_CONSTANT, value=colour), np.float32)


class Judge:
    """Finds faces and scores them."""

    def __init__(self, detector: YuNet, check: LivenessCheck) -> None:
        self._detector = detector
        self._check = check
        self.seconds: list[float] = []

    def scores(self, picture: Pixels, only_largest: bool = True) -> list[float]:
        """Of the faces of at least ``LEAST_FACE`` pixels, or the largest of them."""
        preview = Preview.full(picture)
        faces = [face for face in self._detector.detect(preview) if min(face.box.width, face.box.height) >= LEAST_FACE]
        if only_largest and faces:
            faces = [largest(faces)]
        started = time.perf_counter()
        found = self._check.score(views(preview, faces, MINIFASNET)).tolist()
        if faces:
            self.seconds.append((time.perf_counter() - started) / len(faces))
        return found


def pictures(folder: Path) -> list[Pixels]:
    """The pictures below a folder, in order."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [np.asarray(picture, np.uint8) for path in paths if (picture := cv2.imread(str(path))) is not None]


def frames(clip: Path, step: int = 5) -> Iterator[Pixels]:
    """Every so manieth frame of a video."""
    video = cv2.VideoCapture(str(clip))
    number = 0
    while (read := video.read())[0]:
        if number % step == 0:
            yield np.asarray(read[1], np.uint8)
        number += 1


def row(name: str, scores: Sequence[float], wanted: int | None = None) -> str:
    """A line of the table: how many pass at each threshold."""
    lost = f" (of {wanted}; no face found in the others)" if wanted is not None and wanted > len(scores) else ""
    if not scores:
        return f"| {name} | 0{lost} |" + " |" * (1 + len(THRESHOLDS))
    passed = (f"{100 * np.mean(np.array(scores) >= threshold):.1f} %" for threshold in THRESHOLDS)
    return f"| {name} | {len(scores)}{lost} | {statistics.median(scores):.3f} | {' | '.join(passed)} |"


def main() -> None:
    """Parse the command line, render, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES, help="folder with lfw_known, stills, video, wider, noface")
    parser.add_argument("--every", type=int, default=4, help="make screens and prints of every so manieth photo")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder for two pictures of each kind")
    arguments = parser.parse_args()
    if not (arguments.faces / "lfw_known").is_dir():
        sys.exit(f"There is no lfw_known in {arguments.faces}; name a folder with --faces.")
    cv2.setNumThreads(1)
    settings = FrontSettings.from_environment()
    ensure_detector(settings.weights, progress=True)
    check = open_liveness(ExtractionSettings.from_environment().model_copy(update={"liveness": "available"}))
    judge = Judge(YuNet(settings), check)
    portraits = pictures(arguments.faces / "lfw_known")
    stills = pictures(arguments.faces / "stills")
    print(f"| | faces | median | {' | '.join(f'pass at {threshold}' for threshold in THRESHOLDS)} |")
    print("|---|---|---|" + "---|" * len(THRESHOLDS))

    totals: dict[str, list[float]] = {"all real faces": [], "all screens and prints": []}

    def real(name: str, shown: Iterable[Pixels], only_largest: bool) -> None:
        scores = [score for one in shown for score in judge.scores(one, only_largest)]
        totals["all real faces"] += scores
        print(row(name, scores), flush=True)

    real("photos of press, `lfw_known`", portraits, True)
    real("photos, `stills`", stills, False)
    real("crowds, `wider`", pictures(arguments.faces / "wider"), False)
    real("masked, `masked`", pictures(arguments.faces / "masked"), True)
    for clip in sorted((arguments.faces / "video").glob("*")):
        real(f"frames of `{clip.name}`", frames(clip), False)

    studio = Studio(np.random.default_rng(arguments.seed), pictures(arguments.faces / "noface"))
    small = portraits[:: arguments.every]
    large = [
        cv2.resize(one, None, fx=(f := 400 / max(one.shape)), fy=f, interpolation=cv2.INTER_AREA) for one in stills
    ]
    doubled = [np.asarray(cv2.resize(one, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8) for one in small]

    def made(name: str, photos: Sequence[Pixels], make: Callable[[Pixels], Pixels]) -> None:
        scores = []
        for number, photo in enumerate(photos):
            picture = make(photo)
            scores += judge.scores(picture)
            if arguments.save and number < 2:
                arguments.save.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(arguments.save / f"{name.replace(' ', '_')}_{number}.png"), picture)
        if not name.startswith("camera"):
            totals["all screens and prints"] += scores
        print(row(name, scores, len(photos)), flush=True)

    made("camera before the scene", small, lambda photo: studio.camera(light_of(photo)))
    made("camera before the scene, twice as large", doubled, lambda photo: studio.camera(light_of(photo)))
    for pitch in (1.2, 1.7, 2.3):
        made(
            f"screen, {pitch} pixels for each of its own", small, lambda photo, pitch=pitch: studio.screen(photo, pitch)
        )
    made("screen without frame", small, lambda photo: studio.screen(photo, 1.7, fill=1.15))
    made("small screen in a large view", small, lambda photo: studio.screen(photo, 1.2, fill=0.4))
    made("screen with smaller pixels", doubled, lambda photo: studio.screen(photo, 0.9))
    made("screen, stills", large, lambda photo: studio.screen(photo, 1.7))
    for pitch in (1.0, 1.5, 2.0):
        made(
            f"paper, {pitch} pixels for each of the photo", small, lambda photo, pitch=pitch: studio.paper(photo, pitch)
        )
    made("paper without border", small, lambda photo: studio.paper(photo, 1.5, border=0, fill=1.15))
    made("small paper in a large view", small, lambda photo: studio.paper(photo, 1.5, fill=0.4))
    made("paper, stills", large, lambda photo: studio.paper(photo, 1.5))
    for name, scores in totals.items():
        print(row(f"**{name}**", scores))
    print(f"\n{1e3 * statistics.median(judge.seconds):.1f} ms for each face, cut out and scored, on one core")


if __name__ == "__main__":
    main()
