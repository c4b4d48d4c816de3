"""Which face of a picture is taken when one is needed: the largest, by the FaceNet authors' rule, or by the service's.

Portraits (person/photo.jpg, the portrayed in the middle) as they are, and in scenes put together with strangers'
photos: somebody nearer to the camera passes by at the side; the portrayed stand anywhere in an upright picture with
little faces behind them; two portraits side by side, of which none is meant more than the other. A rule is right when
it takes the portrayed's face; the service refuses to enrol pictures in which two faces are equally good.

Example:
    python -m benchmarks.choice --faces ../shared/faces
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.accuracy import FACES
from face_detection.recognition.choice import Choose, Extent, FaceAt, clear_face, largest_face, main_face
from face_detection.recognition.detection import YuNet
from shared.errors import AmbiguousFace, FaceNotFound
from shared.geometry import Face
from shared.images import ImageDecoder, Pixels, Preview
from shared.settings import FrontSettings

Scene = tuple[Pixels, tuple[float, float] | None]
"""A picture, and a point in the face that is meant; None where nobody is."""


def by_facenet(faces: Sequence[Face], picture: Extent) -> Sequence[Face]:
    """The rule of davidsandberg/facenet, src/align/align_dataset_mtcnn.py."""

    def size(face: Face) -> float:
        x, y = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
        return face.box.area - 2 * ((x - picture.width / 2) ** 2 + (y - picture.height / 2) ** 2)

    return [max(faces, key=size)]


RULES: dict[str, Choose] = {"largest": largest_face, "FaceNet's": by_facenet, "the service's": main_face}


def as_it_is(portrait: Pixels, strangers: Sequence[Pixels], chance: random.Random) -> Scene:
    """A portrait alone, with whoever else is on it."""
    return portrait, (portrait.shape[1] / 2, portrait.shape[0] / 2)


def passed_by(portrait: Pixels, strangers: Sequence[Pixels], chance: random.Random) -> Scene:
    """Somebody whose face is larger, up to twice as high, passes by at the side; the edge may cut the face."""
    height, width = portrait.shape[:2]
    stranger = _scaled(_middle(chance.choice(strangers)), chance.uniform(1.1, 2))[:height]
    shown = round(stranger.shape[1] * chance.uniform(0.6, 1))
    sides = [chance.randrange(width // 4), chance.randrange(width // 4)]
    picture = cv2.copyMakeBorder(portrait, 0, 0, sides[0] + shown, sides[1] + shown, cv2.BORDER_REPLICATE)
    picture[: len(stranger), -shown:] = stranger[:, :shown]
    if chance.random() < 0.5:
        return np.ascontiguousarray(picture[:, ::-1]), (sides[1] + shown + width / 2, height / 2)
    return np.asarray(picture, np.uint8), (sides[0] + shown + width / 2, height / 2)


def standing(portrait: Pixels, strangers: Sequence[Pixels], chance: random.Random) -> Scene:
    """The portrayed stand anywhere in the upper half of an upright picture, four little faces anywhere behind."""
    portrait = _middle(portrait)
    height, width = 4 * portrait.shape[0], 3 * portrait.shape[1]
    picture = np.full((height, width, 3), portrait.mean(axis=(0, 1)), np.uint8)
    for stranger in chance.sample(strangers, 4):
        little = _scaled(_middle(stranger), chance.uniform(0.3, 0.5))
        _paste(picture, little, chance.randrange(width - little.shape[1]), chance.randrange(height - len(little)))
    x, y = chance.randrange(width - portrait.shape[1]), chance.randrange(height // 2 - len(portrait))
    _paste(picture, portrait, x, y)
    return picture, (x + portrait.shape[1] / 2, y + len(portrait) / 2)


def side_by_side(portrait: Pixels, strangers: Sequence[Pixels], chance: random.Random) -> Scene:
    """Two portraits of one size."""
    return np.hstack([portrait, cv2.resize(chance.choice(strangers), portrait.shape[1::-1])]), None


SCENES: dict[str, Callable[[Pixels, Sequence[Pixels], random.Random], Scene]] = {
    "as they are": as_it_is,
    "passed by": passed_by,
    "standing": standing,
    "side by side": side_by_side,
}


def _middle(photo: Pixels) -> Pixels:
    """The inner six tenths of a portrait, which are little more than the head."""
    height, width = photo.shape[:2]
    return photo[height // 5 : height - height // 5, width // 5 : width - width // 5]


def _scaled(photo: Pixels, scale: float) -> Pixels:
    return np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _paste(picture: Pixels, part: Pixels, x: int, y: int) -> None:
    picture[y : y + part.shape[0], x : x + part.shape[1]] = part


def measure(scenes: Iterator[Scene], detector: YuNet) -> dict[str, float]:
    """Shares of the pictures with several faces: right by each rule, and refused; and their number."""
    right, refused, several = dict.fromkeys(RULES, 0), 0, 0
    for pixels, point in scenes:
        picture = Preview.full(pixels)
        faces = detector.detect(picture)
        try:
            meant = FaceAt(*point)(faces, picture) if point else None
        except FaceNotFound:
            continue
        if len(faces) < 2:
            continue
        several += 1
        for name, rule in RULES.items():
            right[name] += rule(faces, picture) == meant
        try:
            clear_face(faces, picture)
        except AmbiguousFace:
            refused += 1
    return {name: count / several for name, count in right.items()} | {
        "refused": refused / several,
        "pictures": several,
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES, help="folder with lfw_known/ and lfw_unknown/")
    arguments = parser.parse_args()
    settings = FrontSettings.from_environment()
    decoder, detector = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels), YuNet(settings)
    portraits, strangers = (
        [decoder.decode(path.read_bytes()) for path in sorted((arguments.faces / name).rglob("*.jpg"))]
        for name in ("lfw_known", "lfw_unknown")
    )
    if not (portraits and strangers):
        sys.exit(f"There are no photos in {arguments.faces}; name a folder with --faces.")
    print(f"| scene | pictures with several faces | {' | '.join(RULES)} | refused to enrol |")
    print("|---|---|" + "---|" * (len(RULES) + 1))
    for name, scene in SCENES.items():
        chance = random.Random(1)
        shares = measure((scene(portrait, strangers, chance) for portrait in portraits), detector)
        rules = " | ".join("" if scene is side_by_side else f"{shares[rule]:.1%}" for rule in RULES)
        print(f"| {name} | {shares['pictures']:.0f} | {rules} | {shares['refused']:.1%} |")


if __name__ == "__main__":
    main()
