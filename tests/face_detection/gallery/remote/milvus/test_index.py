"""What is particular to the index in Milvus; see the contract suite for what it shares with others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import pytest

from deploy.servers.milvus import MilvusServer
from face_detection.gallery.people import Change
from face_detection.gallery.remote.milvus.index import MAX_ROWS, MilvusIndex
from face_detection.gallery.search.distances import prepare
from shared.errors import SearchUnavailable, StartupError
from shared.models import Metric
from tests.gallery_samples import SPACE, vectors
from tests.milvus_indexes import OpenMilvus, keys_in, stored

UNIT = Metric.TENFOLD_UNIT_EUCLIDEAN


@pytest.fixture
def client(milvus: MilvusServer) -> Iterator[Any]:
    """An administrator's connection."""
    from pymilvus import MilvusClient

    client = MilvusClient(milvus.url, dedicated=True)
    yield client
    client.close()


def collections_of(client: Any, name: str) -> list[str]:
    return [collection for collection in client.list_collections() if name in collection]


def test_tenants_cannot_reach_into_the_filter(open_milvus: OpenMilvus) -> None:
    index = open_milvus()
    tenants = [
        "t",
        'a"b',
        'x" or tenant != "',
        "it's",
        "back\\slash",
        "\\",
        'a\\" or 1 == 1 //',
        "Ünï ❤",
        "%",
        "x" * 64,
    ]
    changes = [change for number, tenant in enumerate(tenants) for change in stored(2, tenant, 1 + 2 * number)]
    index.apply(changes, 0, len(changes))
    for number, tenant in enumerate(tenants):
        assert keys_in(index, tenant) == [1 + 2 * number, 2 + 2 * number]
    for nobody in ("", '" or "" == "', "T"):
        assert keys_in(index, nobody) == []


def test_the_position_is_no_sample(open_milvus: OpenMilvus) -> None:
    index = open_milvus()
    index.apply(stored(3), 0, 3)
    index.apply([], 3, 1000)
    index.apply([], 3, 500)  # by a process that is behind
    assert (index.position(), keys_in(index)) == (1000, [1, 2, 3])
    nowhere = np.zeros((1, 8), np.float32)
    assert sorted(index.nearest("t", nowhere, MAX_ROWS).keys[0]) == [1, 2, 3]


def test_former_rows_and_positions_do_not_pile_up(open_milvus: OpenMilvus, client: Any, milvus_name: str) -> None:
    index = open_milvus()
    rows = vectors(50)
    for number in range(1, 51):
        index.apply([Change(number, "t", number % 3 + 1, SPACE, rows[number - 1])], number - 1, number)
    (collection,) = collections_of(client, milvus_name)
    found = client.query(collection, filter="change > -1000", output_fields=["change", "key"])
    assert sorted(row["change"] for row in found) == [-50, 48, 49, 50]


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_both_kinds_of_index_find_the_nearest(
    open_milvus: OpenMilvus, client: Any, milvus_name: str, kind: str
) -> None:
    index = open_milvus(index=kind, dimensions=128, partitions=1)
    changes = stored(6000, dimensions=128)  # enough for a segment, which is indexed
    index.apply(changes, 0, 6000)
    (collection,) = collections_of(client, milvus_name)
    description = client.describe_index(collection, "vector")
    assert (description["index_type"], description["metric_type"]) == ({"hnsw": "HNSW", "ivf": "IVF_SQ8"}[kind], "L2")
    stacked = prepare(np.stack([change.vector for change in changes if change.vector is not None]), UNIT)
    found = index.nearest("t", stacked[:60], 10)
    assert np.mean([keys[0] == number for number, keys in enumerate(found.keys, 1)]) == 1.0
    nearest = [set(np.argsort(((stacked - probe) ** 2).sum(axis=1))[:10] + 1) for probe in stacked[:60]]
    recall = [len(near & set(keys)) / 10 for near, keys in zip(nearest, found.keys, strict=True)]
    assert np.mean(recall) > 0.9
    assert not found.exact


def test_a_collection_that_was_taken_out_of_memory_is_loaded_again(
    open_milvus: OpenMilvus, client: Any, milvus_name: str
) -> None:
    index, other = open_milvus(), open_milvus()
    index.apply(stored(3), 0, 3)
    assert keys_in(other) == [1, 2, 3]
    (collection,) = collections_of(client, milvus_name)
    for use in (lambda: keys_in(index) == [1, 2, 3], lambda: other.position() == 3):
        client.release_collection(collection)
        assert use()
    client.release_collection(collection)
    other.apply(stored(1, first=4), 3, 4)
    assert keys_in(index) == [1, 2, 3, 4]


def test_a_rebuild_removes_what_another_left_and_nothing_else(
    open_milvus: OpenMilvus, client: Any, milvus_name: str
) -> None:
    index = open_milvus()
    index.apply(stored(3), 0, 3)
    neighbour = open_milvus(name=milvus_name[::-1])
    neighbour.apply(stored(2), 0, 2)
    (published,) = collections_of(client, milvus_name)
    (apart,) = collections_of(client, milvus_name[::-1])
    for _ in range(2):
        index.fresh().close()  # and is never heard of again
    assert len(collections_of(client, milvus_name)) == 2
    fresh = index.fresh()
    fresh.apply(stored(5), 0, 5)
    fresh.publish()
    (current,) = collections_of(client, milvus_name)
    assert current != published
    fresh.drop()  # too late: it is the published one
    assert (keys_in(index), keys_in(fresh), index.position()) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 5)
    assert collections_of(client, milvus_name[::-1]) == [apart]
    assert keys_in(neighbour) == [1, 2]
    fresh.close()
    fresh.close()
    assert index.position() == 5  # the connection was shared


def test_a_search_does_not_go_over_to_an_index_that_is_behind(open_milvus: OpenMilvus) -> None:
    index, rebuilding = open_milvus(), open_milvus()
    index.apply(stored(5), 0, 5)
    for end in (3, 5):
        fresh = rebuilding.fresh()
        fresh.apply(stored(end), 0, end)
        fresh.publish()
        if end == 3:
            for _ in range(2):
                with pytest.raises(SearchUnavailable):
                    index.nearest("t", vectors(1), 9)
            index.apply(stored(5), 0, 5)
        assert keys_in(index) == [1, 2, 3, 4, 5]


def test_processes_that_begin_at_once_make_one_collection(
    open_milvus: OpenMilvus, client: Any, milvus_name: str
) -> None:
    handles = [open_milvus() for _ in range(4)]
    start = threading.Barrier(4)

    def begin(index: MilvusIndex) -> None:
        start.wait(30)
        index.apply(stored(20), 0, 20)

    with futures.ThreadPoolExecutor(4) as pool:
        for beginner in [pool.submit(begin, index) for index in handles]:
            beginner.result()
    assert len(collections_of(client, milvus_name)) == 1
    assert all(keys_in(index) == list(range(1, 21)) for index in handles)


def test_a_database_of_its_own(open_milvus: OpenMilvus, client: Any, milvus: MilvusServer, milvus_name: str) -> None:
    with pytest.raises(StartupError):
        open_milvus(url=f"{milvus.url}/db_{milvus_name}")
    client.create_database(f"db_{milvus_name}")
    index = open_milvus(url=f"{milvus.url}/db_{milvus_name}")
    index.apply(stored(3), 0, 3)
    assert keys_in(index) == [1, 2, 3]
    assert collections_of(client, milvus_name) == []
    assert open_milvus().position() == 0
