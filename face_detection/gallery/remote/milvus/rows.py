"""Rows of an index in Milvus: versions of samples, and how far the index is.

The primary key of a version is the number of the change. Numbers that an index has reached are rows too, with negative
keys, so that they come and go with the data; the furthest counts, so that nobody takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_detection.gallery.people import Change
from face_detection.gallery.remote.milvus import connection as milvus_connection
from face_detection.gallery.remote.milvus.collections import Collections
from face_detection.gallery.remote.milvus.connection import Connection

POSITION = "*"
"""Tenant of rows that say up to which change an index has all; none can be called so (``TENANT_ID``)."""

REMOVALS = "*removals"
"""Tenant of rows that say up to which change nothing is there that was removed, where that is further."""

_BASES = {POSITION: 0, REMOVALS: -(1 << 62)}
"""From which the number is subtracted in the primary key."""

_NO_KEY = 0
"""Key of such rows; those of samples are at least 1."""


class Rows:
    """Reads and writes rows of collections.

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


def _row(change: int, key: int, tenant: str, vector: NDArray[np.float32]) -> dict[str, Any]:
    return {"change": change, "key": key, "tenant": tenant, "vector": vector}
