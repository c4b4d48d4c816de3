"""Generations of an index in Milvus: collections, the alias that says which one counts, and the rows in them.

The alias ``faces_<name>`` points to the collection ``faces_<name>_<random digits>`` that all processes search. A
rebuild fills another collection and then moves the alias, which Milvus does atomically; a collection without the
alias is being built, or was left behind by a process that was killed.

Who drops the collection by hand must drop the alias first: Milvus before 2.5.5 does not see to that, and then refuses
to create the alias anew (milvus-io/milvus issue 36963).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.people import Change
from face_detection.gallery.remote.milvus import connection as milvus_connection
from face_detection.gallery.remote.milvus.connection import Connection, NoSuchCollection, NotLoaded
from shared.errors import SearchUnavailable

T = TypeVar("T")

MAX_TENANT = 256
"""Bytes of a tenant's id, which are four for each of its 64 characters at most."""

LISTS = 4096
"""Clusters of an IVF index in each sealed segment: four times the root of its rows is what Milvus advises, and a
segment of 1 GB has some 10⁶. Milvus takes fewer in a segment that has too few rows for them."""

POSITION = "*"
"""Tenant of rows that say up to which change an index has all; none can be called so (``TENANT_ID``)."""

REMOVALS = "*removals"
"""Tenant of rows that say up to which change nothing is there that was removed, where that is further."""

_BASES = {POSITION: 0, REMOVALS: -(1 << 62)}
"""From which the number is subtracted in the primary key."""

_NO_KEY = 0
"""Key of such rows; those of samples are at least 1."""


@dataclass(frozen=True)
class Layout:
    """How a new collection is made.

    Attributes:
        dimensions: of the vectors.
        index: of the vectors; ``ivf`` stores them as a byte per dimension.
        partitions: over which tenants are spread by a hash of their ids.
        shards: over which rows are spread by a hash of their primary keys, for more writes per second.
        replicas: in memory, each on query nodes of its own.
    """

    dimensions: int
    index: Literal["hnsw", "ivf"]
    partitions: int
    shards: int
    replicas: int


class Collections:
    """The collections of one index. Every method raises SearchUnavailable when Milvus fails."""

    def __init__(self, connection: Connection, name: str, layout: Layout) -> None:
        """Those of the index called ``name``."""
        self._connection = connection
        self._alias = f"faces_{name}"
        self._layout = layout

    def published(self) -> str | None:
        """The collection that all processes search; None when there is none (any more)."""
        try:
            with self._connection.client() as client:
                found: str = client.describe_alias(self._alias, timeout=milvus_connection.READ_TIMEOUT)[
                    "collection_name"
                ]
                return found
        except NoSuchCollection:
            return None

    def establish(self) -> str:
        """The published collection, which is made when there is none."""
        collection = self.published()
        if collection is not None:
            return collection
        made = self.make()
        try:
            with self._connection.client() as client:
                client.create_alias(made, self._alias, timeout=milvus_connection.WRITE_TIMEOUT)
        except SearchUnavailable:  # another process may have been faster
            collection = self.published()
            if collection != made:
                self.drop(made)
            if collection is None:
                raise
            return collection
        except NoSuchCollection as error:  # taken for one that was left behind
            raise SearchUnavailable("The search index was replaced meanwhile.") from error
        return made

    def make(self) -> str:
        """A new and empty collection, in memory and without the alias."""
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("change", DataType.INT64, is_primary=True)
        schema.add_field("key", DataType.INT64)
        schema.add_field("tenant", DataType.VARCHAR, max_length=MAX_TENANT, is_partition_key=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._layout.dimensions)
        indexes = MilvusClient.prepare_index_params()
        if self._layout.index == "hnsw":
            parameters = {"M": 16, "efConstruction": 200}
            indexes.add_index("vector", index_type="HNSW", metric_type="L2", params=parameters)
        else:
            indexes.add_index("vector", index_type="IVF_SQ8", metric_type="L2", params={"nlist": LISTS})
        for field in ("key", "tenant"):
            indexes.add_index(field, index_type="INVERTED")
        collection = f"{self._alias}_{secrets.token_hex(8)}"
        with self._connection.client() as client:
            client.create_collection(
                collection,
                schema=schema,
                num_partitions=self._layout.partitions,
                num_shards=self._layout.shards,
                consistency_level="Bounded",
                timeout=milvus_connection.WRITE_TIMEOUT,
            )
            client.create_index(collection, indexes, timeout=milvus_connection.WRITE_TIMEOUT, sync=False)
        self.load(collection, milvus_connection.WRITE_TIMEOUT)
        return collection

    def load(self, collection: str, timeout: float) -> None:
        """Bring a collection into memory, or wait until it is there, for so many seconds; it goes on without us."""
        with self._connection.client() as client:
            client.load_collection(collection, replica_number=self._layout.replicas, timeout=timeout)

    def read(self, collection: str, call: Callable[[Any], T]) -> T:
        """What a call of the client gives; a collection that was taken out of memory is loaded before.

        Raises:
            NoSuchCollection: there is no such collection.
        """
        try:
            with self._connection.client() as client:
                return call(client)
        except NotLoaded:
            self.load(collection, milvus_connection.READ_TIMEOUT)
        try:
            with self._connection.client() as client:
                return call(client)
        except NotLoaded as error:
            raise SearchUnavailable("The search index is not loaded.") from error

    def publish(self, collection: str) -> str | None:
        """Move the alias; returns the collection that had it."""
        former = self.published()
        with self._connection.client() as client:
            if former is None:
                client.create_alias(collection, self._alias, timeout=milvus_connection.WRITE_TIMEOUT)
            else:
                client.alter_alias(collection, self._alias, timeout=milvus_connection.WRITE_TIMEOUT)
        return former

    def drop(self, collection: str) -> None:
        """Remove a collection; nothing happens when there is none."""
        try:
            with self._connection.client() as client:
                client.drop_collection(collection, timeout=milvus_connection.WRITE_TIMEOUT)
        except NoSuchCollection:
            pass

    def drop_unpublished(self) -> None:
        """Remove what killed processes left behind. One rebuild at a time may run, or it loses its collection."""
        present = self._present()
        published = self.published()  # afterwards, so that none that is listed has been published since
        for collection in present:
            if collection != published:
                self.drop(collection)

    def drop_all(self) -> None:
        """Remove every collection, and the alias before."""
        try:
            with self._connection.client() as client:
                client.drop_alias(self._alias, timeout=milvus_connection.WRITE_TIMEOUT)
        except NoSuchCollection:
            pass
        for collection in self._present():
            self.drop(collection)

    def _present(self) -> list[str]:
        return [one for one in listed(self._connection) if one.startswith(f"{self._alias}_")]


class Rows:
    """Reads and writes rows of collections: versions of samples, and how far an index is.

    The primary key of a version is the number of the change. Numbers that an index has reached are rows too, with
    negative keys, so that they come and go with the data; the furthest counts, so that nobody takes it back.

    Every method raises SearchUnavailable when Milvus fails, and NoSuchCollection when there is no such collection.
    """

    def __init__(self, connection: Connection, collections: Collections) -> None:
        self._connection = connection
        self._collections = collections

    def put(self, collection: str, changes: Iterable[Change], vectors: Iterable[NDArray[np.float32]]) -> None:
        """Write versions of samples, with their vectors."""
        pairs = zip(changes, vectors, strict=True)
        self._write(collection, [_row(new.number, new.key, new.tenant, vector) for new, vector in pairs])

    def delete_outdated(self, collection: str, changes: Sequence[Change]) -> None:
        """Delete all versions of the changed samples that are older than their changes, or than another version."""
        latest = {change.key: change.number for change in changes}
        versions = self.query(collection, f"key in {list(latest)}", ["change", "key"])
        for version in versions:
            latest[version["key"]] = max(latest[version["key"]], version["change"])
        self._delete(collection, [row["change"] for row in versions if row["change"] < latest[row["key"]]])

    def numbers(self, collection: str, tenant: str) -> list[int]:
        """What was recorded as ``POSITION`` or ``REMOVALS``."""
        return [_BASES[tenant] - row["change"] for row in self.query(collection, f'tenant == "{tenant}"', ["change"])]

    def record(self, collection: str, tenant: str, number: int, former: Iterable[int], dimensions: int) -> None:
        """Write a number, then delete former ones."""
        base = _BASES[tenant]
        self._write(collection, [_row(base - number, _NO_KEY, tenant, np.zeros(dimensions, np.float32))])
        self._delete(collection, [base - one for one in former])

    def query(self, collection: str, condition: str, fields: list[str], level: str = "Strong") -> list[dict[str, Any]]:
        """Fields of the rows that meet a condition."""

        def query(client: Any) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = client.query(
                collection,
                filter=condition,
                output_fields=fields,
                consistency_level=level,
                timeout=milvus_connection.READ_TIMEOUT,
            )
            return rows

        return self._collections.read(collection, query)

    def _write(self, collection: str, rows: list[dict[str, Any]]) -> None:
        with self._connection.client() as client:
            client.upsert(collection, rows, timeout=milvus_connection.WRITE_TIMEOUT)

    def _delete(self, collection: str, numbers: list[int]) -> None:
        if numbers:
            with self._connection.client() as client:
                client.delete(collection, ids=numbers, timeout=milvus_connection.WRITE_TIMEOUT)


def listed(connection: Connection) -> list[str]:
    """Names of all collections, whosever they are; raises SearchUnavailable when Milvus fails."""
    with connection.client() as client:
        collections: list[str] = client.list_collections(timeout=milvus_connection.READ_TIMEOUT)
        return collections


def _row(change: int, key: int, tenant: str, vector: NDArray[np.float32]) -> dict[str, Any]:
    return {"change": change, "key": key, "tenant": tenant, "vector": vector}
