"""Indexes of vectors in Milvus (``SEARCH=milvus``).

A row is a version of a sample: its primary key is the number of the change, so that a row never changes and it does
not matter how often, in which order or by how many processes changes are applied. Applying writes the new rows first
and removes the older ones of the same samples afterwards. A process that is behind may at most leave an outdated row
until the next rebuild, which takes a candidate's place and misleads nobody: whoever searches reads its candidates from
the database.

How far the index is stands in rows of the same collection (``Rows``), written after the data. What follows is
applied to a collection that is there, and to no other published meanwhile.

What is relied upon in Milvus 2.4 and later, as documented:

- An alias is moved atomically, and names one collection at a time.
- ``Strong`` reads see all that was written before; ``Bounded`` ones all but the last five seconds (the server's
  ``common.gracefulTime``, 5,000 ms unless changed), whichever replica answers.
- An upsert of a primary key that is there leaves one row; a deletion of one that is not there does nothing.
- A search has at most 16,384 rows (``MAX_ROWS``), ``ef`` at least as many as it asks for; a request 64 MB.
- A filter on the partition key confines a search to the tenant's partition.

An HNSW search with a filter may give fewer rows than there are, so that a tenant's rows are counted when it does.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from face_detection.gallery.people import Change
from face_detection.gallery.remote.index import GALLERY_DIGITS, Candidates, GalleryIndexes, IndexState, VectorIndex
from face_detection.gallery.remote.milvus import connection as milvus_connection
from face_detection.gallery.remote.milvus.collections import (
    LISTS,
    POSITION,
    REMOVALS,
    Collections,
    Layout,
    Rows,
    listed,
)
from face_detection.gallery.remote.milvus.connection import Connection, NoSuchCollection
from face_detection.gallery.search.distances import prepare
from shared.errors import SearchUnavailable
from shared.models import Metric

MAX_ROWS = 16_384

_BATCH_ROWS = 4_000
_BATCH_BYTES = 16 * 1024 * 1024

_REPLACED = "The search index was replaced meanwhile."


class MilvusIndex(VectorIndex):
    """A ``VectorIndex`` in Milvus. What is said of its kind and size goes for collections that are made afterwards."""

    name = "milvus"
    settling = 8.0
    """Five seconds of bounded staleness, and what clocks and replicas may be apart."""

    def __init__(
        self,
        url: str,
        token: str | None,
        name: str,
        dimensions: int,
        space: str,
        metric: Metric,
        candidates: int,
        index: Literal["hnsw", "ivf"] = "hnsw",
        partitions: int = 64,
        shards: int = 1,
        replicas: int = 1,
    ) -> None:
        """Connect to Milvus; nothing is made there yet.

        Args:
            url, token: see ``Connection``.
            name: hexadecimal digits that tell gallery, embedding space and metric apart.
            dimensions: of the vectors.
            space: whose changes are applied; a change of another removes the sample.
            metric: how vectors are compared.
            candidates: rows that a search looks at closely: ``ef`` of HNSW, ``nprobe`` of IVF.
            index, partitions, shards, replicas: see ``Layout``.

        Raises:
            StartupError, SearchUnavailable: see ``Connection``.
        """
        self._connection = Connection(url, token)
        layout = Layout(dimensions, index, partitions, shards, replicas)
        self._collections = Collections(self._connection, name, layout)
        self._rows = Rows(self._connection, self._collections)
        self.indexes: GalleryIndexes = MilvusIndexes(self._connection, name, layout)
        self._dimensions = dimensions
        self._space = space
        self._metric = metric
        self._candidates = candidates
        self._index = index
        self._closed = False
        self._unpublished: str | None = None
        self._searched: str | None = None
        self._known = 0  # what position() or apply() said last

    @override
    def position(self) -> int:
        collection = self._current()
        try:
            position = 0 if collection is None else self._position(collection)
        except NoSuchCollection as error:
            raise SearchUnavailable(_REPLACED) from error
        self._searched, self._known = collection, position
        return position

    @override
    def begin(self, change: int) -> int:
        collection = self._current() or self._collections.establish()
        try:
            noted = [*self._rows.numbers(collection, POSITION), *self._rows.numbers(collection, REMOVALS)]
            if not noted:
                self._rows.record(collection, REMOVALS, change, [], self._dimensions)
        except NoSuchCollection as error:
            raise SearchUnavailable(_REPLACED) from error
        return max(noted, default=change)

    @override
    def apply(self, changes: Sequence[Change], since: int, position: int) -> None:
        """What the index has already by its position is skipped."""
        collection = self._current()
        if collection is None:
            if since > 0:
                raise SearchUnavailable(_REPLACED)
            collection = self._collections.establish()
        try:
            positions = self._rows.numbers(collection, POSITION)
            present = max(positions, default=0)
            if present < since:
                raise SearchUnavailable(_REPLACED)
            news = [change for change in changes if change.number > present]
            rows = min(_BATCH_ROWS, max(1, _BATCH_BYTES // (4 * self._dimensions)))
            for start in range(0, len(news), rows):
                self._apply(collection, news[start : start + rows])
            if position > present:
                self._rows.record(collection, POSITION, position, positions, self._dimensions)
        except NoSuchCollection as error:
            raise SearchUnavailable(_REPLACED) from error
        self._searched, self._known = collection, max(position, present)

    @override
    def nearest(self, tenant: str, probes: NDArray[np.float32], k: int) -> Candidates:
        if not len(probes):
            return Candidates([], [], exact=False)
        try:
            if self._searched is not None:
                return self._search(self._searched, tenant, probes, k)
        except NoSuchCollection:
            pass
        collection = self._current()
        try:
            position = 0 if collection is None else self._position(collection)
            if position < self._known:  # who searches relies on finding here what it was told is here
                raise SearchUnavailable(_REPLACED)
            if collection is None:
                return Candidates([[]] * len(probes), [True] * len(probes), exact=False)
            found = self._search(collection, tenant, probes, k)
        except NoSuchCollection as error:
            raise SearchUnavailable(_REPLACED) from error
        self._searched = collection
        return found

    @override
    def fresh(self) -> Self:
        """Collections that were never published are removed: one rebuild at a time may run."""
        self._collections.drop_unpublished()
        collection = self._collections.make()
        index = copy.copy(self)
        index._connection = self._connection.share()
        index._unpublished = index._searched = collection
        index._known = 0
        index._closed = False
        return index

    @override
    def complete(self) -> None:
        """Milvus does so by itself."""

    @override
    def publish(self) -> None:
        assert self._unpublished is not None, "only what fresh() gave can be published"
        try:
            former = self._collections.publish(self._unpublished)
        except NoSuchCollection as error:
            raise SearchUnavailable(_REPLACED) from error
        self._unpublished = None
        if former is not None:
            self._collections.drop(former)

    @override
    def drop(self) -> None:
        if self._unpublished is not None:
            self._collections.drop(self._unpublished)

    @override
    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.close()

    def _current(self) -> str | None:
        return self._unpublished or self._collections.published()

    def _apply(self, collection: str, changes: Sequence[Change]) -> None:
        here = [change for change in changes if change.space == self._space and change.vector is not None]
        if here:
            vectors = prepare(np.stack([change.vector for change in here if change.vector is not None]), self._metric)
            self._rows.put(collection, here, vectors)
        self._rows.delete_outdated(collection, changes)

    def _position(self, collection: str) -> int:
        return max(self._rows.numbers(collection, POSITION), default=0)

    def _search(self, collection: str, tenant: str, probes: NDArray[np.float32], k: int) -> Candidates:
        limit = min(k, MAX_ROWS)
        ours = f"tenant == {json.dumps(tenant, ensure_ascii=False)}"
        hits = self._hits(collection, ours, probes, limit)
        counted = 0  # beyond MAX_ROWS nobody can ask for more: what a search leaves out then cannot be had
        if limit < MAX_ROWS and any(len(found) < limit for found in hits):
            counted = int(self._rows.query(collection, ours, ["count(*)"], "Bounded")[0]["count(*)"])
        keys = [list(dict.fromkeys(int(hit["entity"]["key"]) for hit in found)) for found in hits]
        return Candidates(keys, [len(found) < limit and len(found) >= counted for found in hits], exact=False)

    def _hits(self, collection: str, condition: str, probes: NDArray[np.float32], limit: int) -> list[list[Any]]:
        width = max(self._candidates, limit)
        parameters = {"ef": width} if self._index == "hnsw" else {"nprobe": min(width, LISTS)}

        def search(client: Any) -> list[list[Any]]:
            found: list[list[Any]] = client.search(
                collection,
                data=list(probes),
                anns_field="vector",
                filter=condition,
                limit=limit,
                output_fields=["key"],
                search_params={"metric_type": "L2", "params": parameters},
                consistency_level="Bounded",
                timeout=milvus_connection.READ_TIMEOUT,
            )
            return found

        return self._collections.read(collection, search)


class MilvusIndexes(GalleryIndexes):
    """``GalleryIndexes`` in Milvus: what is common to them, whatever their vectors.

    Args:
        connection: whose user closes it.
        own: name of the index that is searched.
        layout: its own; what it says of memory goes for others that are brought into memory, too.
    """

    def __init__(self, connection: Connection, own: str, layout: Layout) -> None:
        self.own = own
        self._connection = connection
        self._layout = layout
        self._pattern = re.compile(rf"faces_({re.escape(own[:GALLERY_DIGITS])}[0-9a-f]*)_[0-9a-f]+")

    @override
    def states(self) -> Sequence[IndexState]:
        found = defaultdict(set)
        for collection in listed(self._connection):
            match = self._pattern.fullmatch(collection)
            if match:
                found[match[1]].add(collection)
        return [self._state(name, collections) for name, collections in found.items()]

    @override
    def remove(self, name: str, changes: Sequence[Change], position: int) -> None:
        """Versions that are newer than the changes stay."""
        collections = self._collections(name)
        collection = collections.published()
        if collection is None:
            return
        rows = Rows(self._connection, collections)
        try:
            rows.delete_outdated(collection, changes)
            former = rows.numbers(collection, REMOVALS)
            if position > max(former, default=0):
                rows.record(collection, REMOVALS, position, former, self._dimensions(collection))
        except NoSuchCollection:  # replaced or dropped meanwhile
            return

    @override
    def drop_leftovers(self, name: str) -> None:
        self._collections(name).drop_unpublished()

    @override
    def drop(self, name: str) -> None:
        self._collections(name).drop_all()

    def _collections(self, name: str) -> Collections:
        return Collections(self._connection, name, self._layout)

    def _state(self, name: str, present: set[str]) -> IndexState:
        collections = self._collections(name)
        published = collections.published()  # after all were listed: one that was not published then may be by now
        reached = None
        if published is not None:
            rows = Rows(self._connection, collections)
            try:
                numbers = [*rows.numbers(published, POSITION), *rows.numbers(published, REMOVALS)]
                reached = max(numbers, default=0)
            except NoSuchCollection:
                published = None
        return IndexState(name, reached, leftovers=bool(present - {published}))

    def _dimensions(self, collection: str) -> int:
        with self._connection.client() as client:
            fields = client.describe_collection(collection, timeout=milvus_connection.READ_TIMEOUT)["fields"]
        return int(next(field["params"]["dim"] for field in fields if field["name"] == "vector"))
