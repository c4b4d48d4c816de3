"""How long each model takes to embed: one face alone, and a face of many.

All are loaded at once and asked in turns, through the service's own queue: the networks of a combination run side by
side in idle lanes.

Examples:
    python -m benchmarks.models
    PRECISION=int8 python -m benchmarks.models --models facenet facenet+sface best
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from feature_extraction.batching import Batcher
from feature_extraction.embedder import open_embedder
from shared.settings import ExtractionSettings

MODELS = ("facenet", "sface", "dlib", "sface+dlib", "facenet+sface", "best")
MANY = 32


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="the first is what the others are compared with")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    settings = ExtractionSettings.from_environment()
    batchers, crops = {}, {}
    for model in arguments.models:
        embedder = open_embedder(settings.model_copy(update={"model": model}), progress=True)
        shape = (MANY, embedder.card.alignment.height, embedder.card.alignment.width, 3)
        crops[model] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        batchers[model] = Batcher(
            embedder.runs, join=embedder.join, max_batch=settings.max_batch, max_queued=MANY, lanes=embedder.lanes
        )
    times: dict[tuple[str, int], list[float]] = {(model, count): [] for count in (1, MANY) for model in batchers}
    for number in range(arguments.rounds + 1):
        for (model, count), measured in times.items():
            started = time.perf_counter()
            batchers[model].embed(crops[model][:count], timeout=600)
            if number:  # the first round warms up
                measured.append((time.perf_counter() - started) * 1e3 / count)
    for batcher in batchers.values():
        batcher.close()
    median = {key: statistics.median(measured) for key, measured in times.items()}
    base = median[arguments.models[0], MANY]
    print(f"{settings.engine}, {settings.precision}, {embedder.lanes} lanes, medians of {arguments.rounds} rounds\n")
    print(f"| model | one face alone, ms | of {MANY} faces, ms a face | faces/s | against {arguments.models[0]} |")
    print("|---|---|---|---|---|")
    for model in arguments.models:
        alone, many = median[model, 1], median[model, MANY]
        print(f"| {model} | {alone:.1f} | {many:.1f} | {1e3 / many:.0f} | {many / base:.2f} |")


if __name__ == "__main__":
    main()
