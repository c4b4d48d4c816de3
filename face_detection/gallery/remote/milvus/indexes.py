"""The indexes of one gallery in Milvus, of all embedding spaces: what is common to them, whatever their vectors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from typing_extensions import override

from face_detection.gallery.people import Change
from face_detection.gallery.remote.index import GALLERY_DIGITS, GalleryIndexes, IndexState
from face_detection.gallery.remote.milvus import connection as milvus_connection
from face_detection.gallery.remote.milvus.collections import Collections, Layout, listed
from face_detection.gallery.remote.milvus.connection import Connection, NoSuchCollection
from face_detection.gallery.remote.milvus.rows import POSITION, REMOVALS, Rows


class MilvusIndexes(GalleryIndexes):
    """``GalleryIndexes`` in Milvus.

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
