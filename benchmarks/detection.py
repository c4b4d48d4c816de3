"""What detection on larger pictures costs, and what it finds: the choice of DETECTION_MAX_SIDE.

Pictures and boxes in WIDER FACE's format (``gt.txt`` beside ``images/``). A marked face of at least 40 pixels that is
not marked as invalid counts as found when a detection overlaps it by half (IoU). Times are those of decoding at the
scale that detection needs, and of detecting, on one thread.

Example:
    python -m benchmarks.detection --wider wider --sides 640 1024
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from benchmarks.accuracy import FACES
from face_detection.recognition.detection import YuNet
from shared.geometry import Box
from shared.images import ImageDecoder
from shared.settings import FrontSettings

SIDES = (640, 800, 1024, 1280, 1600)
LEAST_FACE = 40
LEAST_OVERLAP = 0.5


def read_marks(folder: Path) -> Iterator[tuple[bytes, list[Box]]]:
    """Each encoded picture with the boxes of its marked faces."""
    lines = (folder / "gt.txt").read_text().splitlines()
    position = 0
    while position < len(lines):
        count = int(lines[position + 1])
        end = position + 2 + max(count, 1)  # a picture without faces has a line of zeros
        rows = [[int(value) for value in line.split()] for line in lines[position + 2 : end]]
        boxes = [Box(*row[:4]) for row in rows if min(row[2:4]) >= LEAST_FACE and not row[7]]
        yield (folder / "images" / lines[position]).read_bytes(), boxes
        position = end


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wider", type=Path, default=FACES / "wider", help="folder with gt.txt and images/")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="values of DETECTION_MAX_SIDE")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not (arguments.wider / "gt.txt").exists():
        sys.exit(f"There is no gt.txt in {arguments.wider}; name a folder with --wider.")
    cv2.setNumThreads(1)
    marked = list(read_marks(arguments.wider))
    settings = FrontSettings.from_environment()
    decoder = ImageDecoder(settings.max_image_bytes, settings.max_image_pixels)
    detector = YuNet(settings)
    total = sum(len(boxes) for _, boxes in marked)
    print(f"{len(marked)} pictures, {total} marked faces of at least {LEAST_FACE} pixels\n")
    print("| DETECTION_MAX_SIDE | faces found | detections | decoding, ms | detecting, ms |\n|---|---|---|---|---|")
    for side in arguments.sides:
        decoding, detecting = [], []
        for _ in range(arguments.rounds):
            found = detections = 0
            for encoded, boxes in marked:
                started = time.perf_counter()
                preview = decoder.preview(encoded, side)
                decoded = time.perf_counter()
                faces = detector.detect(preview)
                detecting.append(time.perf_counter() - decoded)
                decoding.append(decoded - started)
                found += sum(any(face.box.iou(box) >= LEAST_OVERLAP for face in faces) for box in boxes)
                detections += len(faces)
        times = (f"{statistics.median(values) * 1e3:.1f}" for values in (decoding, detecting))
        print(f"| {side} | {found} of {total} | {detections} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
