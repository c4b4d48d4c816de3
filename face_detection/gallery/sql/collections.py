"""The collections of tenants, whatever database is behind them."""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

from datetime import UTC, datetime

from face_detection.gallery.collections import (
    DEFAULT_COLLECTION,
    MAX_COLLECTIONS,
    UNKNOWN_COLLECTION,
    Collection,
    CollectionPage,
    Contents,
    check_collection_name,
    new_gallery,
)
from face_detection.gallery.directory import UNKNOWN_TENANT
from face_detection.gallery.people import NewSample, Sample
from face_detection.gallery.sql import answers
from face_detection.gallery.sql import statements as sql
from face_detection.gallery.sql.database import UNLIMITED, Connection, Connections
from face_detection.gallery.sql.rows import sample_of
from face_detection.gallery.sql.writing import Transaction, check_quota
from shared.errors import Conflict, NotFound

# The default collection has no row: it is as old as its tenant.
_ALL = """
    (
        SELECT tenant, name, gallery, created_at FROM collections WHERE tenant = :tenant
        UNION ALL SELECT id, CAST(:default AS TEXT), id, created_at FROM tenants WHERE id = :tenant
    ) AS own
"""
PAGE = f"""
    SELECT tenant, name, gallery, created_at FROM {_ALL}
    WHERE name > :after ORDER BY name LIMIT CAST(:limit AS BIGINT)
"""
GET = f"SELECT tenant, name, gallery, created_at FROM {_ALL} WHERE name = :name"
COUNT = "SELECT count(*) FROM collections WHERE tenant = :tenant"
HAS_TENANT = "SELECT 1 FROM tenants WHERE id = :tenant"
ADD = """
    INSERT INTO collections (tenant, name, gallery, created_at) VALUES (:tenant, :name, :gallery, :created_at)
    ON CONFLICT DO NOTHING
"""
CONTENTS = """
    SELECT (SELECT count(*) FROM people WHERE tenant = :gallery),
        (SELECT count(*) FROM samples WHERE tenant = :gallery AND space IS NOT NULL)
"""
DELETE = (
    *answers.DELETE_OF_TENANT,
    "DELETE FROM events WHERE tenant = :tenant",
    "DELETE FROM collections WHERE gallery = :tenant",
)


class Collections:
    """Keeps collections. Safe to use from several threads and processes, as the store is.

    It shares the store's connections and ends with them. Every method raises StorageError when the database fails,
    with nothing changed, and NotFound where the tenant has no such collection, or there is no such tenant.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def page(self, tenant: str, limit: int = UNLIMITED - 1, after: str = "") -> CollectionPage:
        """At most ``limit`` (≥ 1) of a tenant's collections whose names come after ``after``, by name."""
        wanted = {"tenant": tenant, "default": DEFAULT_COLLECTION, "after": after, "limit": limit + 1}
        with self._connections.reading() as connection:
            found = [_collection(*row) for row in connection.execute(PAGE, wanted).fetchall()]
        return CollectionPage(found[:limit], found[limit - 1].name if len(found) > limit else None)

    def get(self, tenant: str, name: str) -> Collection:
        """A collection."""
        with self._connections.reading() as connection:
            return _get(connection, tenant, name)

    def contents(self, collection: Collection) -> Contents:
        """What a collection has by now."""
        with self._connections.reading() as connection:
            rows = connection.execute(CONTENTS, {"gallery": collection.gallery}).fetchall()
        return Contents(*rows[0])

    def create(self, tenant: str, name: str) -> Collection:
        """Create a collection.

        Raises:
            InvalidRequest: the name is not allowed.
            Conflict: there is one with this name, or the tenant has ``MAX_COLLECTIONS``.
        """
        check_collection_name(name)
        new = Collection(tenant, name, new_gallery(tenant), datetime.now(UTC))
        with self._connections.writing() as connection:
            if not connection.execute(HAS_TENANT, {"tenant": tenant}).fetchall():
                raise NotFound(UNKNOWN_TENANT)
            row = vars(new) | {"created_at": new.created_at.isoformat(timespec="microseconds")}
            if name == DEFAULT_COLLECTION or connection.execute(ADD, row).rowcount == 0:
                raise Conflict("There is a collection with this name already.")
            if connection.execute(COUNT, {"tenant": tenant}).fetchall()[0][0] > MAX_COLLECTIONS:
                raise Conflict(f"A company can have {MAX_COLLECTIONS} collections beside the default one.")
        return new

    def delete(self, tenant: str, name: str) -> None:
        """Delete a collection with its people, samples and events; nothing is stored in it afterwards.

        Raises:
            Conflict: it is the default one.
        """
        if name == DEFAULT_COLLECTION:
            raise Conflict("The default collection cannot be deleted.")
        with self._connections.writing() as connection:
            gallery = _get(connection, tenant, name).gallery
            transaction = Transaction(connection, gallery)
            transaction.clear()
            for statement in DELETE:
                connection.execute(statement, {"tenant": gallery})
            transaction.finish()

    def copy_person(self, source: Collection, target: Collection, id: str, quota: int | None = None) -> int:
        """Enrol somebody of one collection in another of the same tenant, with all samples, of whatever space.

        Args:
            source, target: from where, and where to.
            id: whom, as it is stored.
            quota: see ``Store.upsert``.

        Returns:
            How many samples were copied.

        Raises:
            NotFound: there is nobody with this id; or one of the collections was deleted meanwhile.
            Conflict: somebody has this id there already.
            QuotaExceeded: see ``quota``.
        """
        with self._connections.writing() as connection:
            transaction = Transaction(connection, target.gallery)
            if not transaction.has_tenant:
                raise NotFound(UNKNOWN_COLLECTION)
            limits = {"after": -1, "limit": UNLIMITED}
            rows = connection.execute(sql.SAMPLES, {"tenant": source.gallery, "id": id, **limits}).fetchall()
            if not rows:
                raise NotFound("There is nobody with this id.")
            copies = [_copy(sample_of(*row)) for row in rows]
            if connection.execute(sql.PERSON_KEY, {"tenant": target.gallery, "id": id}).fetchall():
                raise Conflict("Somebody has this id in the collection already.")
            transaction.add(copies)
            check_quota(transaction, copies, quota)
            transaction.finish()
        return len(copies)


def _get(connection: Connection, tenant: str, name: str) -> Collection:
    wanted = {"tenant": tenant, "default": DEFAULT_COLLECTION, "name": name}
    rows = connection.execute(GET, wanted).fetchall()
    if not rows:
        raise NotFound(UNKNOWN_COLLECTION)
    return _collection(*rows[0])


def _collection(tenant: str, name: str, gallery: str, created_at: str) -> Collection:
    return Collection(tenant, name, gallery, datetime.fromisoformat(created_at))


def _copy(sample: Sample) -> NewSample:
    person = sample.person
    return NewSample(
        id=person.id,
        name=person.name,
        metadata=person.metadata,
        action=person.action,
        space=sample.space,
        vector=sample.vector,
    )
