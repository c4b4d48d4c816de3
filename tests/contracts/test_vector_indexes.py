"""What every index of vectors outside of the process must do."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from face_detection.gallery.people import Change
from face_detection.gallery.remote.index import Candidates, IndexState, VectorIndex
from face_detection.gallery.search.distances import distances, prepare
from shared.errors import SearchUnavailable
from shared.models import Metric
from tests.contracts.vector_indexes import FORMER, NAME, Place
from tests.gallery_samples import OTHER_SPACE, SPACE, vectors

UNIT = Metric.TENFOLD_UNIT_EUCLIDEAN

Vectors = NDArray[np.float32]


Fresh = Callable[[VectorIndex], VectorIndex]


@pytest.fixture
def fresh_of() -> Iterator[Fresh]:
    """Makes fresh indexes, which are closed after the test."""
    with ExitStack() as stack:
        yield lambda index: stack.enter_context(closing(index.fresh()))


def stored(rows: Vectors, tenant: str = "t", first: int = 1) -> list[Change]:
    """Samples that were stored one after the other, with keys that are the numbers of their changes."""
    return [Change(number, tenant, number, SPACE, row) for number, row in enumerate(rows, first)]


def deleted(number: int, key: int, tenant: str = "t") -> Change:
    return Change(number, tenant, key, None, None)


def replay(index: VectorIndex, changes: Sequence[Change], batch: int = 1000) -> None:
    """Bring an index up to date, as every process does: from where it says it is."""
    while (position := index.position()) < changes[-1].number:
        some = [change for change in changes if change.number > position][:batch]
        index.apply(some, position, some[-1].number)
    time.sleep(index.settling)


def keys_in(index: VectorIndex, tenant: str = "t", dimensions: int = 8) -> set[int]:
    (keys,) = index.nearest(tenant, vectors(1, dimensions, seed=99), 1000).keys
    return set(keys)


def assert_nearest(
    found: Candidates, rows: Mapping[int, Vectors], probes: Vectors, k: int, metric: Metric = UNIT
) -> None:
    """The rows (prepared, by key) that were found are as near as the nearest, in order, each once.

    Rows that are equally near but for the rounding of float32 may change places.
    """
    assert len(found.keys) == len(found.exhausted) == len(probes)
    for probe, keys in zip(probes, found.keys, strict=True):
        assert len(set(keys)) == len(keys)
        assert len(keys) >= min(k, len(rows))
        if rows:
            wanted = np.sort(distances(np.stack(list(rows.values())), probe, metric))[: len(keys)]
            measured = distances(np.stack([rows[key] for key in keys]), probe, metric)
            np.testing.assert_allclose(measured, wanted, rtol=1e-3, atol=1e-3)


def test_a_new_index(place: Place) -> None:
    index = place.open()
    assert index.position() == 0
    found = index.nearest("t", vectors(2), 3)
    assert [list(keys) for keys in found.keys] == [[], []]
    assert list(found.exhausted) == [True, True]
    index.apply([], 0, 7)
    assert index.position() == place.open().position() == 7
    assert list(index.nearest("t", vectors(0), 3).keys) == []


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("dimensions", [128, 512])
def test_nearest_is_what_measuring_every_sample_finds(place: Place, metric: Metric, dimensions: int) -> None:
    index = place.open(dimensions=dimensions, metric=metric)
    raw = 5 * vectors(340, dimensions, seed=1)
    changes = stored(raw[:300]) + stored(raw[300:], "u", first=301)
    replay(index, changes)
    rows = prepare(raw, metric)
    by_tenant = {
        "t": {key: rows[key - 1] for key in range(1, 301)},
        "u": {key: rows[key - 1] for key in range(301, 341)},
        "v": {},
    }
    probes = prepare(5 * vectors(12, dimensions, seed=3), metric)
    for tenant, present in by_tenant.items():
        for k in (1, 3, 500):
            found = index.nearest(tenant, probes, k)
            assert_nearest(found, present, probes, k, metric)
            assert list(found.exhausted) == [k > len(present)] * 12
    assert_nearest(
        place.open(dimensions=dimensions, metric=metric).nearest("t", rows[:1], 1), {1: rows[0]}, rows[:1], 1
    )


def test_many_are_asked_for(place: Place) -> None:
    index = place.open()
    changes = stored(vectors(1500))
    replay(index, changes)
    probes = prepare(vectors(2, seed=5), UNIT)
    for k in (1000, 1400):
        found = index.nearest("t", probes, k)
        assert all(len(set(keys)) == len(keys) >= 1000 for keys in found.keys)
        assert not any(found.exhausted)


def test_names_tell_indexes_apart(place: Place) -> None:
    one, two = place.open("00000000000000aa"), place.open("00000000000000bb", dimensions=16)
    replay(one, stored(vectors(3)))
    assert (one.position(), two.position()) == (3, 0)
    replay(two, stored(vectors(5, 16)))
    assert (keys_in(one), keys_in(two, dimensions=16)) == ({1, 2, 3}, {1, 2, 3, 4, 5})


def test_deletions_and_samples_of_other_spaces(place: Place) -> None:
    index = place.open()
    rows = vectors(9)
    replay(index, stored(rows[:5]))
    later = [
        deleted(6, 2),
        deleted(7, 77),  # never was in this index
        Change(8, "t", 3, OTHER_SPACE, vectors(1, 4)[0]),
        Change(9, "t", 9, OTHER_SPACE, vectors(1, 4)[0]),
        Change(10, "t", 1, SPACE, rows[8]),
    ]
    replay(index, later)
    assert index.position() == 10
    assert keys_in(index) == {1, 4, 5}
    moved = prepare(rows[8:], UNIT)
    assert index.nearest("t", moved, 1).keys[0][0] == 1
    replay(index, [Change(11, "t", 3, SPACE, rows[2]), Change(12, "t", 2, SPACE, rows[1])])
    assert keys_in(index) == {1, 2, 3, 4, 5}


def test_applying_again_changes_nothing(place: Place) -> None:
    index, other = place.open(), place.open()
    rows = vectors(30)
    changes = stored(rows)
    for start, end in ((0, 10), (0, 10), (5, 20), (0, 30), (0, 30), (20, 30), (0, 3)):
        index.apply(changes[start:end], start, end)
        other.apply(changes[start:end], start, end)
    time.sleep(index.settling)
    assert index.position() == other.position() == 30
    probes = prepare(rows, UNIT)
    for handle in (index, other):
        found = handle.nearest("t", probes, 1000)
        assert all(len(keys) == 30 for keys in found.keys)
        assert [keys[0] for keys in found.keys] == list(range(1, 31))


def test_a_process_that_is_behind_changes_nothing(place: Place) -> None:
    """It read its changes before a sample moved and another was deleted, and applies them afterwards."""
    ahead, behind = place.open(), place.open()
    rows = vectors(10)
    old = stored(rows[:4])
    new = [*old[2:], Change(5, "t", 1, SPACE, rows[7]), deleted(6, 2)]
    assert behind.position() == 0
    replay(ahead, new)
    for position in (4, 2):
        behind.apply(old[:position], 0, position)
    time.sleep(behind.settling)
    assert ahead.position() == behind.position() == 6
    present = {1: rows[7], 3: rows[2], 4: rows[3]}
    probes = prepare(rows, UNIT)
    present = dict(zip(present, prepare(np.stack(list(present.values())), UNIT), strict=True))
    for index in (ahead, behind):
        assert_nearest(index.nearest("t", probes, 3), present, probes, 3)
        assert keys_in(index) == {1, 3, 4}


def test_two_processes_apply_the_same_at_once(place: Place) -> None:
    rows = vectors(2000, seed=4)
    changes = stored(rows)[40:]
    changes += [deleted(2000 + number, 40 + number) for number in range(1, 200)]
    handles = [place.open() for _ in range(4)]
    start = threading.Barrier(4)

    def follow(index: VectorIndex, batch: int) -> None:
        start.wait(30)
        replay(index, changes, batch)

    with ThreadPoolExecutor(4) as pool:
        for follower in [pool.submit(follow, *pair) for pair in zip(handles, (70, 130, 190, 310), strict=True)]:
            follower.result()
    present = {key: row for key, row in enumerate(prepare(rows, UNIT), 1) if key > 239}
    probes = prepare(vectors(5, seed=8), UNIT)
    for index in handles:
        assert index.position() == 2199
        assert_nearest(index.nearest("t", probes, 1000), present, probes, 1000)


def test_a_sample_that_is_replaced_all_the_time_is_always_found(place: Place) -> None:
    index, other = place.open(), place.open()
    versions = vectors(40, seed=6)
    replay(index, stored(-versions[:20]))
    finished = threading.Event()

    def replace() -> None:
        try:
            for number in range(21, 121):
                index.apply([Change(number, "t", 1, SPACE, versions[number % 40])], number - 1, number)
        finally:
            finished.set()

    def search() -> int:
        searches = 0
        probe = prepare(versions[:1], UNIT)
        while not finished.is_set():
            (keys,) = other.nearest("t", probe, 30).keys
            assert sorted(keys) == list(range(1, 21))
            searches += 1
        return searches

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(search)
        pool.submit(replace).result()
        assert reader.result() > 0


def test_a_fresh_index_takes_the_place_of_another(place: Place, fresh_of: Fresh) -> None:
    rows = vectors(40)
    changes = stored(rows)
    index, other = place.open(), place.open()
    replay(index, changes[:30])
    fresh = fresh_of(other)
    assert (fresh.position(), index.position(), other.position()) == (0, 30, 30)
    replay(fresh, changes[10:25])
    assert (fresh.position(), index.position(), other.position()) == (25, 30, 30)
    replay(index, changes[:35])
    assert keys_in(index) == keys_in(other) == keys_in(place.open()) == set(range(1, 36))
    assert keys_in(fresh) == set(range(11, 26))
    fresh.publish()
    for handle in (index, other, fresh, place.open()):
        assert handle.position() == 25
        assert keys_in(handle) == set(range(11, 26))
    replay(index, changes)
    for handle in (index, other, fresh):
        assert handle.position() == 40
        assert keys_in(handle) == set(range(11, 41))


def test_no_change_is_lost_when_an_index_is_replaced_by_one_that_is_behind(place: Place, fresh_of: Fresh) -> None:
    """Whoever applies what comes after 20 to an index that has become one with 5 must not make it 30."""
    changes = stored(vectors(30))
    index = place.open()
    index.apply(changes[:20], 0, 20)
    fresh = fresh_of(place.open())
    replay(fresh, changes[:5])
    fresh.publish()
    with pytest.raises(SearchUnavailable):
        index.apply(changes[20:], 20, 30)
    replay(index, changes)
    assert keys_in(index) == keys_in(fresh) == set(range(1, 31))


def test_an_index_that_is_dropped_before_it_was_published(place: Place, fresh_of: Fresh) -> None:
    changes = stored(vectors(20))
    index = place.open()
    replay(index, changes)
    fresh = fresh_of(index)
    replay(fresh, changes[:5])
    fresh.drop()
    assert index.position() == 20
    assert keys_in(index) == set(range(1, 21))


def test_what_a_killed_process_left_does_not_matter(place: Place, fresh_of: Fresh) -> None:
    changes = stored(vectors(20))
    index = place.open()
    replay(index, changes)
    abandoned = fresh_of(place.open())
    replay(abandoned, changes[:5])
    abandoned.close()
    fresh = fresh_of(place.open())
    assert fresh.position() == 0
    replay(fresh, changes[:10])
    fresh.publish()
    assert index.position() == 10
    assert keys_in(index) == set(range(1, 11))


def test_an_index_is_replaced_while_others_work_with_it(place: Place, fresh_of: Fresh) -> None:
    """Searches find everything that both the former and the new index have, all the time."""
    rows = vectors(400, seed=9)
    changes = stored(rows)
    searching, applying = place.open(), place.open()
    replay(applying, changes[:200])
    finished = threading.Event()

    def search() -> int:
        searches = 0
        while not finished.is_set():
            assert keys_in(searching) >= set(range(1, 201))
            searches += 1
        return searches

    def follow() -> None:
        for end in range(210, 401, 10):
            try:
                applying.apply(changes[end - 10 : end], end - 10, end)
            except SearchUnavailable:  # it has been replaced: start over from where it is
                replay(applying, changes[:end])

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(search)
        try:
            follower = pool.submit(follow)
            for _ in range(3):
                fresh = fresh_of(place.open())
                replay(fresh, changes[:200], batch=50)
                fresh.publish()
            follower.result()
        finally:
            finished.set()
        assert reader.result() > 0
    replay(applying, changes)
    assert keys_in(searching) == keys_in(applying) == set(range(1, 401))


def test_a_loss_is_noticed_and_everything_can_be_applied_again(place: Place) -> None:
    changes = stored(vectors(20))
    index, other = place.open(), place.open()
    replay(index, changes)
    assert keys_in(other) == set(range(1, 21))
    place.lose()
    assert index.position() == other.position() == 0
    replay(index, changes, batch=7)
    for handle in (index, other, place.open()):
        assert handle.position() == 20
        assert keys_in(handle) == set(range(1, 21))


def test_a_loss_that_nobody_noticed_leaves_no_gap(place: Place) -> None:
    changes = stored(vectors(20))
    index, other = place.open(), place.open()
    replay(index, changes[:15])
    place.lose()
    with pytest.raises(SearchUnavailable):
        index.apply(changes[15:], 15, 20)
    try:
        other.nearest("t", vectors(1), 1)
    except SearchUnavailable:
        pass
    replay(index, changes)
    assert keys_in(index) == keys_in(other) == set(range(1, 21))


def states(index: VectorIndex) -> dict[str, IndexState]:
    return {state.name: state for state in index.indexes.states()}


def test_what_is_removed_leaves_the_indexes_of_other_spaces(place: Place) -> None:
    rows = vectors(20)
    former, present = place.open(FORMER), place.open(NAME, 4, OTHER_SPACE)
    replay(former, stored(rows))
    replay(present, [Change(21, "t", 21, OTHER_SPACE, rows[0, :4])])
    changes = [
        deleted(22, 2),
        Change(23, "t", 3, OTHER_SPACE, vectors(1, 4)[0]),
        Change(24, "t", 4, SPACE, rows[1]),  # by somebody who works with the former model, and is gone since
        deleted(25, 99),
    ]
    assert states(present)[FORMER] == IndexState(FORMER, 20, leftovers=False)
    for _ in range(2):
        present.indexes.remove(FORMER, changes, 25)
        time.sleep(former.settling)
        assert place.keys(FORMER) == keys_in(former) == {1, *range(5, 21)}
        assert former.position() == 20  # who comes back to it misses nothing
        assert states(present)[FORMER].reached == 25
    assert place.keys(NAME) == {21}
    assert present.position() == 21
    replay(former, [*changes, Change(26, "t", 26, SPACE, rows[2])])
    assert place.keys(FORMER) == keys_in(former) == {1, 4, *range(5, 21), 26}
    assert states(former) == states(present)
    assert states(present)[FORMER].reached == 26


def test_what_a_new_index_cannot_have(place: Place) -> None:
    index, other = place.open(), place.open()
    assert index.begin(30) == 30
    assert other.begin(40) == 30, "it may have been deleted after the first one began to read"
    assert (index.position(), states(other)[NAME].reached) == (0, 30)
    replay(index, stored(vectors(5)))
    assert (index.begin(40), states(other)[NAME].reached) == (30, 30)
    index.apply([], 5, 50)
    assert index.begin(60) == other.begin(60) == states(other)[NAME].reached == 50


def test_who_removes_and_is_behind_removes_nothing_that_is_newer(place: Place) -> None:
    rows = vectors(6)
    former, present = place.open(FORMER), place.open(NAME, 4, OTHER_SPACE)
    replay(former, stored(rows[:3]))
    late = [deleted(4, 2), Change(5, "t", 3, OTHER_SPACE, vectors(1, 4)[0])]
    replay(former, [deleted(4, 2), Change(6, "t", 3, SPACE, rows[4])])
    present.indexes.remove(FORMER, late, 5)
    time.sleep(former.settling)
    assert place.keys(FORMER) == keys_in(former) == {1, 3}
    assert former.nearest("t", prepare(rows[4:5], UNIT), 1).keys[0][0] == 3
    assert (former.position(), states(present)[FORMER].reached) == (6, 6)


def test_removals_of_more_than_one_statement_takes(place: Place) -> None:
    former, present = place.open(FORMER), place.open(NAME, 4, OTHER_SPACE)
    replay(former, stored(vectors(2500)) + stored(vectors(10), "u", first=2501), batch=4000)
    present.indexes.remove(FORMER, [deleted(3000 + key, key) for key in range(1, 2481)], 5480)
    time.sleep(former.settling)
    assert place.keys(FORMER) == set(range(2481, 2511))
    assert (keys_in(former), keys_in(former, "u")) == (set(range(2481, 2501)), set(range(2501, 2511)))


def test_an_index_of_another_space_is_dropped_and_can_come_back(place: Place) -> None:
    changes = stored(vectors(9))
    former, present = place.open(FORMER), place.open(NAME, 4, OTHER_SPACE)
    stranger = place.open("ffffffffff000000")
    for index in (former, stranger):
        replay(index, changes)
    replay(present, [Change(21, "t", 21, OTHER_SPACE, vectors(1, 4)[0])])
    assert states(present).keys() == {NAME, FORMER}
    former.fresh().close()
    present.indexes.drop(FORMER)
    present.indexes.drop("0123456789999999")
    present.indexes.remove(FORMER, changes, 9)
    assert states(present).keys() == {NAME}
    assert (place.keys(FORMER), place.keys(NAME)) == (set(), {21})
    assert keys_in(stranger) == place.keys("ffffffffff000000") == set(range(1, 10))
    assert states(stranger).keys() == {"ffffffffff000000"}
    assert former.position() == 0
    replay(former, changes)
    assert keys_in(former) == set(range(1, 10))


def test_what_killed_rebuilds_left_is_dropped(place: Place, fresh_of: Fresh) -> None:
    changes = stored(vectors(20))
    former, present = place.open(FORMER), place.open(NAME, 4, OTHER_SPACE)
    replay(present, [Change(21, "t", 21, OTHER_SPACE, vectors(1, 4)[0])])
    replay(former, changes[:10])
    fresh = fresh_of(former)
    replay(fresh, changes)
    assert place.keys(FORMER) == set(range(1, 21))
    assert [states(present)[name].leftovers for name in (NAME, FORMER)] == [False, True]
    present.indexes.drop_leftovers(NAME)
    assert place.keys(FORMER) == set(range(1, 21))
    present.indexes.drop_leftovers(FORMER)
    assert place.keys(FORMER) == keys_in(former) == set(range(1, 11))
    assert former.position() == 10
    assert not any(state.leftovers for state in states(present).values())
    with pytest.raises(SearchUnavailable):
        fresh.apply(changes, 20, 21)
    with pytest.raises(SearchUnavailable):
        fresh.publish()
    assert keys_in(former) == set(range(1, 11))


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("exact_below", [0, 20_000])
def test_extreme_lengths_are_candidates(place: Place, metric: Metric, exact_below: int) -> None:
    scales = (1e-20, 1e-3, 1e3, 1e17, 9e17)
    raw = vectors(5, 128)
    raw = np.stack([row / np.linalg.norm(row) * scale for row, scale in zip(raw, scales, strict=True)]).astype(
        np.float32
    )
    index = place.open(dimensions=128, metric=metric, exact_below=exact_below)
    replay(index, stored(raw))
    rows = prepare(raw, metric)
    for probes in (rows, -rows):
        found = index.nearest("t", probes, 5)
        assert all(sorted(keys) == [1, 2, 3, 4, 5] for keys in found.keys)
    for number, keys in enumerate(index.nearest("t", rows[2:], 1).keys, 3):
        assert keys[0] == number


def people(count: int, photos: int, dimensions: int = 128, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Photos of people, and one more of each: as embeddings of faces, they lie closely around each person."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, 1, dimensions))
    every = (centres + 0.5 * rng.standard_normal((count, photos + 1, dimensions))).astype(np.float32)
    return every[:, :photos].reshape(-1, dimensions), every[:, photos]


@pytest.mark.slow
def test_the_nearest_of_many_is_found(place: Place) -> None:
    raw, probes = people(2000, 5)
    index = place.open(dimensions=128, exact_below=1000)
    replay(index, stored(raw), batch=5000)
    rows, probes = prepare(raw, UNIT), prepare(probes, UNIT)
    nearest = (probes @ rows.T).argmax(axis=1) + 1
    deadline = time.monotonic() + 60
    while index.nearest("t", probes[:1], 1).exact and time.monotonic() < deadline:
        time.sleep(0.1)  # until the approximate index is there
    found = [keys[0] for start in range(0, 2000, 20) for keys in index.nearest("t", probes[start : start + 20], 1).keys]
    assert np.mean(nearest == found) >= 0.99


STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from("tu"), st.integers(1, 12), st.sampled_from("ssso-")), min_size=1, max_size=8),
    max_size=8,
)


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, seed=st.integers(0, 5))
def test_random_changes(place: Place, steps: list[list[tuple[str, int, str]]], seed: int) -> None:
    """Batches of new vectors, moves to another space and deletions, through two handles, against a dict."""
    name = secrets.token_hex(8)
    handles = [place.open(name), place.open(name)]
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[int, Vectors]] = {"t": {}, "u": {}}
    latest: dict[int, Change] = {}
    number = 0
    probes = prepare(vectors(3, seed=seed), UNIT)
    for turn, step in enumerate(steps):
        before = number
        for tenant, key, kind in step:
            key += 100 * (tenant == "u")
            number += 1
            vector = rng.standard_normal(8).astype(np.float32)
            if kind == "s":
                latest[key] = Change(number, tenant, key, SPACE, vector)
                rows[tenant][key] = prepare(vector[np.newaxis], UNIT)[0]
            else:
                other = Change(number, tenant, key, OTHER_SPACE, vector[:4])
                latest[key] = other if kind == "o" else deleted(number, key, tenant)
                rows[tenant].pop(key, None)
        since = int(rng.integers(0, before + 1))  # from somewhere before: a part comes again
        changes = sorted(change for change in latest.values() if change.number > since)
        handles[turn % 2].apply(changes, since, number)
        time.sleep(handles[0].settling)
        for index in handles:
            assert index.position() == number
            for tenant, present in rows.items():
                for k in (1, 30):
                    assert_nearest(index.nearest(tenant, probes, k), present, probes, k)
    for index in handles:
        index.close()


def test_a_server_that_is_away_or_dies(place: Place) -> None:
    """Killed while changes are applied: a part of them may be there, and applying them again is right."""
    if place.killed is None:
        pytest.skip("the index has no server of its own")
    index, other = place.open(dimensions=128), place.open(dimensions=128)
    changes = stored(vectors(6000, 128))
    begun = threading.Event()

    def follow() -> None:
        for end in range(500, 6001, 500):
            index.apply(changes[end - 500 : end], end - 500, end)
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(follow)
        assert begun.wait(60)
        with place.killed():
            with pytest.raises(SearchUnavailable):
                follower.result()
            for use in (
                lambda: index.apply(changes, 0, 6000),
                index.position,
                lambda: other.nearest("t", vectors(1, 128), 1),
                other.fresh,
                other.indexes.states,
                lambda: other.indexes.remove(NAME, changes, 6000),
                lambda: other.indexes.drop(FORMER),
            ):
                with pytest.raises(SearchUnavailable):
                    use()
    assert 500 <= other.position() < 6000
    replay(other, changes)
    rows = {change.key: prepare(change.vector[np.newaxis], UNIT)[0] for change in changes if change.vector is not None}
    probes = prepare(vectors(5, 128, seed=7), UNIT)
    for handle in (index, other):
        assert handle.position() == 6000
        assert_nearest(handle.nearest("t", probes, 1000), rows, probes, 1000)
