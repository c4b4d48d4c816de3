"""What the benchmarks compute; what they measure is not tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import FOLDS, Pair, fold_accuracies, read_pairs


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
