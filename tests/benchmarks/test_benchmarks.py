"""What the benchmarks compute; what they measure is not tested."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks
from benchmarks.__main__ import FULL
from benchmarks.accuracy import FOLDS, Pair, fold_accuracies, read_pairs
from benchmarks.approximate import DIMENSIONS
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.scale_faces import nearest_distances, spread
from benchmarks.search import METRIC, resident, unit_vectors
from benchmarks.searchers import folder_bytes
from face_detection.gallery.search.distances import distances


def test_the_official_pairs_file(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("10\t300\nAbel_Pacheco\t1\t4\nAbdel_Madi\t12\tDean_Barker\t1\n")
    assert read_pairs(file) == [
        Pair("Abel_Pacheco/Abel_Pacheco_0001.jpg", "Abel_Pacheco/Abel_Pacheco_0004.jpg", True),
        Pair("Abdel_Madi/Abdel_Madi_0012.jpg", "Dean_Barker/Dean_Barker_0001.jpg", False),
    ]


def test_pairs_by_path(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("A/a.jpg\tA/b.jpg\t1\nA/a.jpg\tB/c.jpg\t0\n")
    assert read_pairs(file) == [Pair("A/a.jpg", "A/b.jpg", True), Pair("A/a.jpg", "B/c.jpg", False)]
    file.write_text("A/a.jpg\tA/b.jpg\t1\none\ttwo\tthree\n")
    with pytest.raises(SystemExit):
        read_pairs(file)


def test_accuracy_over_folds() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(200) % 2 == 0
    apart = np.where(same, 1.0, 3.0) + rng.uniform(-0.5, 0.5, 200)
    assert fold_accuracies(apart, same).tolist() == [1.0] * FOLDS
    wrong = apart.copy()
    wrong[[0, 1]] = 3.2, 0.9  # one pair of each kind, both in the first fold
    assert fold_accuracies(wrong, same).tolist() == [0.9] + [1.0] * (FOLDS - 1)
    assert abs(fold_accuracies(rng.uniform(size=200), same).mean() - 0.5) < 0.15


def test_the_nearest_samples_of_large_galleries() -> None:
    rows, probes = unit_vectors(25_000, 8, 0), unit_vectors(20, 8, 1)
    wanted = [distances(rows, probe, METRIC).min() for probe in probes]
    assert nearest_distances(rows, probes) == pytest.approx(wanted, rel=1e-5)


def test_people_are_made_up_as_unevenly_as_those_they_imitate() -> None:
    def dimensions_used(rows: np.ndarray[Any, np.dtype[np.float32]]) -> float:
        values = np.linalg.eigvalsh(np.cov(rows.T))
        return float(values.sum() ** 2 / (values**2).sum())

    scale = np.linspace(1, 0.1, DIMENSIONS, dtype=np.float32) ** 2
    numbers = np.random.default_rng(0)
    few, all_of_them = (numbers.standard_normal((count, DIMENSIONS), np.float32) * scale for count in (60, 20_000))
    wanted = dimensions_used(all_of_them)
    assert dimensions_used(few) < 0.7 * wanted
    imitated = numbers.standard_normal((20_000, DIMENSIONS), np.float32) @ spread(few)
    assert dimensions_used(imitated) == pytest.approx(wanted, rel=0.15)


def test_what_processes_and_folders_occupy(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(bytes(5))
    (tmp_path / "other").write_bytes(bytes(7))
    assert folder_bytes(tmp_path) == 12
    assert resident_bytes(os.getpid()) >= 0.9 * resident()
    before, started = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - started < 0.1:
        pass
    assert cpu_seconds(os.getpid()) - before > 0.05


def test_every_benchmark_is_there() -> None:
    folder = Path(benchmarks.__file__).parent
    assert all((folder / f"{name}.py").exists() for name in FULL)
