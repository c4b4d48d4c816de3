"""From an encoded picture to aligned crops, in a pool of threads sized to the cores.

Faces are cut out so that eyes, nose and mouth always fall on the same pixels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from face_detection.metrics import Metrics
from face_detection.recognition.choice import Choose, all_faces
from face_detection.recognition.detection import Detector
from face_detection.recognition.liveness import views
from face_detection.recognition.quality import REFERENCE, Quality, measure
from shared.geometry import Face, Landmarks, in_reading_order
from shared.images import ImageDecoder, Pixels, Preview
from shared.models import MINIFASNET, Alignment, Effort

Encoded = str | bytes
"""A picture from outside, as a client sent it; see ``ImageDecoder.bytes_of``."""

T = TypeVar("T")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Prepared:
    """What is known of a picture before any embedding.

    Attributes:
        width, height: of the picture, upright and at full scale, in pixels.
        faces: in reading order.
        chosen: the faces that were cut out.
        alignment: by which they were.
        crops: (n, height, width, 3) uint8 BGR, one for each chosen face, as the model takes them.
        qualities: how well each chosen face can be recognised.
        views: what the liveness check looks at of each, see ``liveness.views``; None where it is not asked.
    """

    width: int
    height: int
    faces: Sequence[Face]
    chosen: Sequence[Face]
    alignment: Alignment
    crops: Pixels
    qualities: Sequence[Quality]
    views: Pixels | None = None

    @property
    def portraits(self) -> Pixels:
        """(n, height, width, 3) uint8 BGR, one for each chosen face: the first of its crops."""
        return portraits(self.crops, self.alignment)


class Preparation:
    """Decodes, detects and aligns; at most ``threads`` pictures at once, so memory stays bounded.

    Args:
        decoder: decodes within limits.
        detector: finds faces; a JPEG that is larger than it needs is decoded at reduced scale.
        threads: number of pictures worked on at once.
        metrics: told how long each stage took.
    """

    def __init__(self, decoder: ImageDecoder, detector: Detector, threads: int, metrics: Metrics) -> None:
        # Parallelism comes from pictures; OpenCV's own threads would only compete with it.
        cv2.setNumThreads(1)
        self._decoder = decoder
        self._detector = detector
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")

    async def detect(self, picture: Encoded, effort: Effort | None = None) -> list[Face]:
        """The faces of a picture, in reading order.

        Args:
            picture: encoded.
            effort: how hard to look; as the setting says when None.

        Raises:
            ImageError: the picture cannot be used.
        """
        return await self._run(lambda: self._detect(self._decode(picture, effort)[1], effort))

    async def assess(self, picture: Encoded, effort: Effort | None = None) -> list[tuple[Face, Quality]]:
        """The faces of a picture, in reading order, and how well each can be recognised.

        ``effort`` as for ``detect``.

        Raises:
            ImageError: the picture cannot be used.
        """

        def work() -> list[tuple[Face, Quality]]:
            data, preview = self._decode(picture, effort)
            faces = self._detect(preview, effort)
            if self._loses(preview, faces, REFERENCE):
                preview = self._decode_fully(data)
            return list(zip(faces, self._measure(preview, faces), strict=True))

        return await self._run(work)

    async def prepare(
        self,
        picture: Encoded,
        alignment: Alignment,
        choose: Choose = all_faces,
        effort: Effort | None = None,
        liveness: bool = False,
    ) -> Prepared:
        """Find the faces of a picture and cut out those that ``choose`` picks, in a thread of the pool.

        ``effort`` as for ``detect``. With ``liveness`` also for the liveness check.

        Raises:
            ImageError: the picture cannot be used.
            ServiceError: whatever ``choose`` raises.
        """

        def work() -> Prepared:
            data, preview = self._decode(picture, effort)
            faces = self._detect(preview, effort)
            chosen = choose(faces, preview)
            # Only the whole picture shows the liveness check what it looks for.
            if preview.reduced and liveness or self._loses(preview, chosen, alignment, REFERENCE):
                preview = self._decode_fully(data)
            crops, qualities = self._cut_out(preview, chosen, alignment), self._measure(preview, chosen)
            seen = views(preview, chosen, MINIFASNET) if liveness else None
            return Prepared(preview.width, preview.height, faces, chosen, alignment, crops, qualities, seen)

        return await self._run(work)

    async def prepare_frame(
        self,
        frame: Encoded,
        alignment: Alignment,
        choose: Callable[[Sequence[Face], Pixels], Sequence[int]],
        liveness: bool = False,
    ) -> Prepared:
        """The same for whoever wants to see all faces of a picture before some are chosen.

        ``choose`` gets a crop of each, too, which may come from the reduced picture, and picks rows of both.

        Raises:
            ImageError: the picture cannot be used.
            ServiceError: whatever ``choose`` raises.
        """

        def work() -> Prepared:
            data, preview = self._decode(frame, None)
            faces = self._detect(preview, None)
            crops = self._cut_out(preview, faces, alignment)
            rows = [*choose(faces, portraits(crops, alignment))]
            chosen = [faces[row] for row in rows]
            if chosen and (preview.reduced and liveness or self._loses(preview, chosen, alignment, REFERENCE)):
                preview = self._decode_fully(data)
                crops = self._cut_out(preview, chosen, alignment)
            else:
                crops = crops[rows]
            qualities = self._measure(preview, chosen)
            seen = views(preview, chosen, MINIFASNET) if liveness else None
            return Prepared(preview.width, preview.height, faces, chosen, alignment, crops, qualities, seen)

        return await self._run(work)

    async def render(self, picture: Encoded, draw: Callable[[Pixels], T]) -> T:
        """Let ``draw`` work on a picture, upright and at full scale, which is its to change.

        Raises:
            ImageError: the picture cannot be used.
            ServiceError: whatever ``draw`` raises.
        """

        def work() -> T:
            with self._metrics.stage("decode"):
                data = self._decoder.bytes_of(picture)
                pixels = self._decoder.decode(data)
            return draw(pixels)

        return await self._run(work)

    def close(self) -> None:
        """Stop the threads; work that has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, picture: Encoded, effort: Effort | None) -> tuple[bytes, Preview]:
        with self._metrics.stage("decode"):
            data = self._decoder.bytes_of(picture)
            return data, self._decoder.preview(data, self._detector.least_side, self._detector.least_scale(effort))

    def _detect(self, preview: Preview, effort: Effort | None) -> list[Face]:
        with self._metrics.stage("detect"):
            faces = in_reading_order(self._detector.detect(preview, effort))
        self._metrics.faces.inc(len(faces))
        return faces

    @staticmethod
    def _loses(preview: Preview, chosen: Sequence[Face], *alignments: Alignment) -> bool:
        """Whether crops of a reduced picture would lack what the whole one shows."""
        return preview.reduced and not all(shrinks(preview, chosen, alignment) for alignment in alignments)

    def _decode_fully(self, data: bytes) -> Preview:
        with self._metrics.stage("decode"):
            return self._decoder.preview(data)

    def _cut_out(self, preview: Preview, faces: Sequence[Face], alignment: Alignment) -> Pixels:
        with self._metrics.stage("align"):
            return cut_out(preview, faces, alignment)

    def _measure(self, preview: Preview, faces: Sequence[Face]) -> list[Quality]:
        with self._metrics.stage("measure"):
            crops = cut_out(preview, faces, REFERENCE, cv2.BORDER_REPLICATE)
            width, height = preview.width, preview.height
            return [measure(face, crop, width, height) for face, crop in zip(faces, crops, strict=True)]

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, work)


def portraits(crops: Pixels, alignment: Alignment) -> Pixels:
    """What shows each face once: the crops, of sheets the first crop; (n, height, width, 3) uint8 BGR."""
    return alignment.split(crops)[0]


def jpeg(crop: Pixels) -> bytes:
    """A crop as a JPEG file.

    Args:
        crop: (height, width, 3) uint8 BGR.
    """
    _, encoded = cv2.imencode(".jpg", crop)
    return encoded.tobytes()


def similarity(landmarks: Landmarks, alignment: Alignment) -> Matrix:
    """The rotation, scaling and shift that takes landmarks nearest to the template in the least-squares sense.

    With points as complex numbers the transform is z → a·z + b, and a has the closed form
    Σ conj(s)·d / Σ |s|² over the centred source and destination points (Umeyama, 1991, without reflection).

    Returns:
        (2, 3) float64, from picture pixels to crop pixels.
    """
    source, target = ([complex(*point) for point in points] for points in (landmarks.points, alignment.template))
    start, end = sum(source) / len(source), sum(target) / len(target)
    spread = sum(abs(point - start) ** 2 for point in source)
    # All landmarks on one point cannot be scaled to the template; any finite transform will do.
    a = sum((s - start).conjugate() * (d - end) for s, d in zip(source, target, strict=True)) / spread if spread else 1
    b = end - a * start
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def shrinks(picture: Preview, faces: Sequence[Face], alignment: Alignment) -> bool:
    """Whether all crops have fewer pixels than the faces have in a reduced picture, so that nothing is lost by it."""
    scale = picture.pixels.shape[1] / picture.width
    return all(_magnification(similarity(face.landmarks, crop)) <= scale for face in faces for crop in alignment.crops)


def cut_out(picture: Preview, faces: Sequence[Face], alignment: Alignment, beyond: int = cv2.BORDER_CONSTANT) -> Pixels:
    """One aligned crop, or sheet of crops, for each face.

    Args:
        picture: may be reduced.
        faces: their landmarks are in pixels of the picture at full scale.
        alignment: size and template of the crops.
        beyond: OpenCV's kind of border for what lies beyond the picture; black unless it says otherwise.

    Returns:
        (len(faces), alignment.height, alignment.width, 3) uint8 BGR.
    """
    crops = np.zeros((len(faces), alignment.height, alignment.width, 3), np.uint8)
    # Pixel i of the reduced picture is centred on pixel (i + 1/2) / scale − 1/2 of the full one.
    to_full = _scaling(picture.width / picture.pixels.shape[1], picture.height / picture.pixels.shape[0])
    for one, row in zip(alignment.crops, alignment.split(crops), strict=True):
        for crop, face in zip(row, faces, strict=True):
            crop[...] = _warp(picture.pixels, similarity(face.landmarks, one) @ to_full, one, beyond)
    return picture.to_srgb(crops)


def _magnification(matrix: Matrix) -> float:
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def _scaling(x: float, y: float, left: int = 0, top: int = 0) -> Matrix:
    """(3, 3), from a picture whose pixels are x × y pixels of another, from ``left, top`` on, to that other."""
    return np.array([[x, 0, left + (x - 1) / 2], [0, y, top + (y - 1) / 2], [0, 0, 1]], np.float64)


def _warp(pixels: Pixels, matrix: Matrix, alignment: Alignment, beyond: int) -> Pixels:
    """Warp with bilinear sampling, which skips pixels when it shrinks by more than two: average them first."""
    shrink = int(1 / max(_magnification(matrix), 1e-6))
    if shrink >= 2:
        pixels, matrix = _shrunken(pixels, matrix, alignment, shrink)
    size = alignment.width, alignment.height
    return np.asarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=beyond), np.uint8)


def _shrunken(pixels: Pixels, matrix: Matrix, alignment: Alignment, shrink: int) -> tuple[Pixels, Matrix]:
    """The part of the picture that the crop shows, averaged over shrink x shrink pixels, and its transform."""
    corners = np.array([[0, 0], [alignment.width, 0], [0, alignment.height], [alignment.width, alignment.height]])
    shown = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array([pixels.shape[1], pixels.shape[0]])
    left, top = np.clip(np.floor(shown.min(axis=0)) - shrink, 0, limit - 1).astype(int)
    right, bottom = np.clip(np.ceil(shown.max(axis=0)) + shrink, 1, limit).astype(int)
    width, height = max(1, (right - left) // shrink), max(1, (bottom - top) // shrink)
    part = pixels[top : top + height * shrink, left : left + width * shrink]
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    to_picture = _scaling(part.shape[1] / width, part.shape[0] / height, int(left), int(top))
    return np.asarray(small, np.uint8), matrix @ to_picture
