"""Two stores on one file, each with its index, against a plain dict: random changes, same answers everywhere."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from face_detection.gallery.people import Change
from face_detection.gallery.search.memory import MemoryIndex
from shared.models import Metric
from tests.galleries import open_store
from tests.gallery_samples import OTHER_SPACE, SPACE, brute_force, ids_of, sample

pytestmark = pytest.mark.slow

TENANTS = ("t", "u", "v")
PROBES = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)

which = st.integers(0, 1)
tenants = st.sampled_from(TENANTS)
ids = st.sampled_from([str(number) for number in range(12)])


class TwoProcesses(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores = [open_store(f"{self.folder.name}/gallery.db") for _ in range(2)]
        self.indices = [MemoryIndex(store, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN) for store in self.stores]
        self.rng = np.random.default_rng(0)
        self.model: dict[str, dict[str, dict[str, NDArray[np.float32]]]] = {tenant: {} for tenant in TENANTS}
        self.changes = 0
        self.followed: dict[int, Change] = {}
        self.followed_to = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    @rule(
        which=which,
        tenant=tenants,
        batch=st.lists(st.tuples(ids, st.sampled_from([SPACE, SPACE, SPACE, OTHER_SPACE])), max_size=8),
    )
    def upsert(self, which: int, tenant: str, batch: list[tuple[str, str]]) -> None:
        new = []
        for id, space in batch:
            # Few distinct directions, so that ties occur.
            vector = self.rng.integers(-1, 2, 4).astype(np.float32)
            vector[0] += 3
            new.append(sample(id, vector, space=space))
            self.model[tenant].setdefault(id, {})[space] = vector
        self.changes += sum(len(self.model[tenant][id]) for id in {id for id, _ in batch})
        assert self.stores[which].upsert(tenant, new) == self.changes

    @rule(which=which, tenant=tenants, id=ids)
    def delete(self, which: int, tenant: str, id: str) -> None:
        existing = self.model[tenant].pop(id, {})
        self.changes += len(existing)
        assert self.stores[which].delete(tenant, id) == bool(existing)

    @rule(which=which, tenant=tenants)
    def clear(self, which: int, tenant: str) -> None:
        count = sum(map(len, self.model[tenant].values()))
        self.changes += count
        assert self.stores[which].clear(tenant) == count
        self.model[tenant].clear()

    @rule(which=which)
    def reopen_index(self, which: int) -> None:
        self.indices[which] = MemoryIndex(self.stores[which], SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)

    @rule(which=which, limit=st.integers(1, 5))
    def follow(self, which: int, limit: int) -> None:
        """One step of a follower that holds nothing but changes."""
        for change in self.stores[which].changes(self.followed_to, limit):
            assert change.number > self.followed_to
            self.followed_to = change.number
            self.followed[change.key] = change

    @invariant()
    def stores_equal_the_model(self) -> None:
        for store in self.stores:
            assert store.last_change() == self.changes
            for tenant, rows in self.model.items():
                assert ids_of(store, tenant) == sorted(rows)
                assert store.count(tenant) == sum(map(len, rows.values()))
                assert store.count(tenant, SPACE) == sum(SPACE in own for own in rows.values())

    @rule()
    def follower_equals_the_model(self) -> None:
        while self.followed_to < self.changes:
            self.follow(0, 3)
        followed: dict[str, dict[int, Any]] = {tenant: {} for tenant in TENANTS}
        for change in self.followed.values():
            if change.vector is not None:
                followed[change.tenant][change.key] = (change.space, change.vector.tolist())
        assert followed == {
            tenant: {
                one.key: (one.space, rows[id][one.space].tolist())
                for id in rows
                for one in self.stores[0].samples(tenant, id)
            }
            for tenant, rows in self.model.items()
        }

    @invariant()
    def searches_equal_the_model(self) -> None:
        for tenant, rows in self.model.items():
            present = {
                one.key: rows[id][SPACE]
                for id in rows
                for one in self.stores[0].samples(tenant, id)
                if one.space == SPACE
            }
            for index in self.indices:
                for k in (1, 3):
                    expected = [brute_force(present, probe, Metric.TENFOLD_UNIT_EUCLIDEAN, k) for probe in PROBES]
                    assert index.nearest(tenant, PROBES, k) == expected
                assert index.size(tenant) == len(present)


TwoProcesses.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
TestTwoProcesses = TwoProcesses.TestCase
