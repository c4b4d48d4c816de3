"""What ``PRECISION=int8`` gains in time, and how far its embeddings are from those in 32 bits.

Both networks run in turns on the same faces, in every lane that the embedder has at once, as in the service.

Example:
    python -m benchmarks.precision --batch 1 8 16 --seconds 15
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import FACES, crop_of, read_photos
from feature_extraction.embedder import Embedder, open_embedder
from shared.settings import ExtractionSettings, FrontSettings, Precision

Crops = NDArray[np.uint8]


Times = dict[Precision, list[float]]


def milliseconds_per_face(
    embedders: Mapping[Precision, Embedder], crops: Crops, batches: Sequence[int], seconds: float
) -> dict[int, Times]:
    """Times of rounds in which every lane embeds the same batch; batch sizes and embedders take turns."""
    times: dict[int, Times] = {batch: {precision: [] for precision in embedders} for batch in batches}
    lanes = max(embedder.lanes for embedder in embedders.values())
    with ThreadPoolExecutor(lanes) as pool:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            for batch, (precision, embedder) in itertools.product(batches, embedders.items()):
                started = time.perf_counter()
                list(pool.map(embedder.embed, [crops[:batch]] * embedder.lanes))
                passed = time.perf_counter() - started
                times[batch][precision].append(passed * 1e3 / batch / embedder.lanes)
    return times


def cosines(embedders: Mapping[Precision, Embedder], crops: Crops) -> NDArray[np.float32]:
    """Cosine (n,) between the two embeddings of each crop."""
    first, second = (
        np.concatenate([embedder.embed(crops[start : start + 16]) for start in range(0, len(crops), 16)])
        for embedder in embedders.values()
    )
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.einsum("nd,nd->n", first, second) / lengths, np.float32)


def report(times: Mapping[int, Times]) -> str:
    """Medians of the times and of their ratios in a round as Markdown, a row for each batch size."""
    lines = ["| batch | fp32, ms per face | int8, ms per face | ratio |", "|---|---|---|---|"]
    for batch, measured in times.items():
        slow, fast = measured["fp32"], measured["int8"]
        ratios = [one / other for one, other in zip(slow, fast, strict=True)]
        cells = (f"{statistics.median(values):.2f}" for values in (slow, fast, ratios))
        lines.append(f"| {batch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=FACES / "lfw_known", help="folder/person/photo.jpg")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 16], help="crops in one run")
    parser.add_argument("--seconds", type=float, default=15.0, help="in all")
    arguments = parser.parse_args()
    settings = ExtractionSettings.from_environment()
    embedders: dict[Precision, Embedder] = {
        precision: open_embedder(settings.model_copy(update={"precision": precision}))
        for precision in get_args(Precision)
    }
    alignment = embedders["fp32"].card.alignment
    photos = read_photos(sorted(arguments.photos.glob("*/*.jpg")), FrontSettings.from_environment())
    crops = np.concatenate([crop_of(photo, alignment) for photo in photos])
    found = cosines(embedders, crops)
    print(report(milliseconds_per_face(embedders, crops, arguments.batch, arguments.seconds)))
    print(
        f"\nCosine between the two embeddings of a face, {len(crops)} photos: median {np.median(found):.4f}, "
        f"5th percentile {np.quantile(found, 0.05):.4f}, least {found.min():.4f}"
    )


if __name__ == "__main__":
    main()
