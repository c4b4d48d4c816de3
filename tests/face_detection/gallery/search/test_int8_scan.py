from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from face_detection.gallery.search import memory
from face_detection.gallery.search.distances import prepare
from face_detection.gallery.search.int8_scan import Block, Probes, Products, Shortlist
from face_detection.gallery.search.memory import MemoryIndex
from shared.models import Metric
from tests.galleries import open_store
from tests.gallery_samples import SPACE, brute_force, sample, vectors

NOBODY = np.empty(0, np.intp)


def unit(count: int, dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    return prepare(vectors(count, dimensions, seed), Metric.COSINE)


@pytest.mark.parametrize("dimensions", [1, 2, 64, 127, 128, 130, 512, 2622, 4096])
@pytest.mark.parametrize("probes", [1, 3, 17])
def test_products_are_within_their_error(dimensions: int, probes: int) -> None:
    rows, wanted = unit(300, dimensions), unit(probes, dimensions, seed=1)
    products = Products(probes, len(rows))
    scales, errors = Block(rows).multiply(Probes(wanted), NOBODY, products)
    exact = wanted.astype(np.float64) @ rows.T.astype(np.float64)
    off = np.abs(products.values * scales[:, np.newaxis] - exact)
    assert (off <= errors[:, np.newaxis]).all()
    assert (errors < 0.05).all()  # else the bound would let everything through


def test_products_are_the_same_in_any_thread() -> None:
    """The kernels may use instructions that every thread has to ask the system for."""
    rows, probes = unit(500, 128), Probes(unit(2, 128, seed=1))
    block = Block(rows)

    def multiply(_: int) -> NDArray[np.int32]:
        products = Products(2, len(rows))
        block.multiply(probes, NOBODY, products)
        return products.values.copy()

    expected = multiply(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(multiply, range(40)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [1, 2, 10, 50, 200])
def test_a_shortlist_holds_the_k_greatest(k: int) -> None:
    generator = np.random.default_rng(k)
    truth = generator.standard_normal((3, 120))
    errors = np.array([0.0, 0.1, 1.0])
    seen = truth + generator.uniform(-1, 1, truth.shape) * errors[:, np.newaxis]
    shortlist = Shortlist(3, k)
    for start in range(0, 120, 40):
        shortlist.add(start, seen[:, start : start + 40] / 2, np.full(3, 2.0), errors)
    for probe, values in enumerate(truth):
        found = set(shortlist.positions(probe).tolist())
        assert found >= set(np.argsort(-values)[:k].tolist())
        assert len(found) <= max(k, int((values >= np.sort(values)[-min(k, 120)] - 4 * errors[probe]).sum()))


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("k", [1, 5, 90])
def test_a_crowd_that_int8_cannot_tell_apart(monkeypatch: pytest.MonkeyPatch, metric: Metric, k: int) -> None:
    monkeypatch.setattr(memory, "BLOCK", 32)
    rows = (unit(1, 64) + 1e-4 * vectors(200, 64, seed=2)).astype(np.float32)
    store = open_store(":memory:")
    store.upsert("t", [sample(str(i), row) for i, row in enumerate(rows)])
    index = MemoryIndex(store, SPACE, metric)
    for step in range(60):  # deletes until blocks hold dead rows only, and the rows are compacted
        by_key = {change.key: change.vector for change in store.changes(0, 1000) if change.vector is not None}
        probe = rows[step] + np.float32(1e-5)
        assert index.nearest("t", probe[np.newaxis], k)[0] == brute_force(by_key, probe, metric, k)
        store.delete("t", str(step))
    store.close()


def test_blocks_follow_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK", 32)
    store = open_store(":memory:")
    store.upsert("t", [sample(str(i), row) for i, row in enumerate(vectors(100))])
    index = MemoryIndex(store, SPACE, Metric.COSINE)
    index.refresh()
    assert len(index._snapshots["t"].blocks) == 3
    for id in range(40):
        store.delete("t", str(id))
    index.refresh()
    assert len(index._snapshots["t"].rows) == 60
    assert len(index._snapshots["t"].blocks) == 1
    store.close()
