"""The store of people and their samples, whatever database is behind it.

A sample is the embedding of one enrolled photo. A person has a name, metadata and one sample or more, under an id
that is unique within the tenant. Every change of a sample takes the next number of one sequence per database; a new
name or new metadata counts as a change of all samples of the person. A deletion is a change too: it leaves a
tombstone, which has the tenant, the sample's number and the change's, and nothing else. Whoever has applied all
changes up to N asks for those after N and is then up to date: ``changes`` for the whole database, ``feed`` for one
tenant, whose numbers and revisions tell nothing of other tenants.

Tombstones are removed at last (``history``). Whoever comes later than that misses deletions, and is told to start
over. Whoever knew nothing when they began lacks no deletion from before: ``begun`` says when that was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from face_detection.gallery.directory import UNKNOWN_TENANT
from face_detection.gallery.metadata import Condition, fragments
from face_detection.gallery.people import Change, Description, Feed, NewSample, Page, Person, Sample, Vector
from face_detection.gallery.sql import answers, history
from face_detection.gallery.sql import statements as sql
from face_detection.gallery.sql.answers import Once
from face_detection.gallery.sql.database import UNLIMITED, Connections, listed
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.rows import changes_of, feed_of, page_of, person_of, sample_of
from face_detection.gallery.sql.writing import Transaction, check_quota
from face_detection.naming import composed, folded
from shared.errors import NotFound


class Store:
    """Keeps people and their samples. Safe between threads, and between processes unless it lives in memory.

    A change that was answered survives the death of the process. Every method raises StorageError when the
    database fails, with nothing changed, and InvalidRequest for text that is not valid Unicode; text with a NUL
    character, which nobody's id or name has, may be refused likewise.
    """

    def __init__(self, connections: Connections) -> None:
        """A store on an open database; closing the store closes it."""
        self._connections = connections

    def upsert(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> int:
        """Store people with one sample of an embedding space each, in one transaction; of equal ones the last stays.

        A person who is known gets the new name, metadata and sample, and loses all other samples of the same space;
        the first of these keeps its key and number. Samples of other spaces stay.

        Args:
            tenant: whose people.
            samples: what to store.
            quota: most samples that the tenant may have afterwards in each of the spaces.
            once: the request, if it is one that may be sent again: its answer is kept, see ``answers``.

        Returns:
            The number of the last change.

        Raises:
            NotFound: the directory knows no such tenant, as when it was deleted a moment ago.
            SpaceMismatch: a vector has not the dimensions that its space has in this database.
            QuotaExceeded: see ``quota``.
            Answered, KeyReused, AnswerDeleted: see ``Answers.find``.
        """
        if not samples and once is None:
            return self.last_change()
        with self._adding(tenant, samples, quota) as transaction, _done_once(transaction, tenant, once) as done:
            done.ids = [sample.id for sample in samples]
            transaction.upsert(list({(sample.id, sample.space): sample for sample in samples}.values()))
        return transaction.change

    def add(
        self,
        tenant: str,
        samples: Sequence[NewSample],
        quota: int | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sequence[Sample]:
        """Give people further samples, in one transaction, and say what was stored, in order.

        Somebody unknown is created with the name, metadata and action of the first sample; whoever is known keeps
        theirs.

        Raises:
            NotFound, SpaceMismatch, QuotaExceeded, Answered, KeyReused, AnswerDeleted: see ``upsert``.
        """
        if not samples and once is None:
            return []
        with self._adding(tenant, samples, quota) as transaction, _done_once(transaction, tenant, once) as done:
            done.ids = [sample.id for sample in samples]
            done.samples = transaction.numbered(transaction.add(samples))
        return done.samples

    def replace(
        self,
        tenant: str,
        number: int,
        space: str,
        vector: Vector,
        description: Description | None = None,
        once: Once[Sequence[Sample]] | None = None,
    ) -> Sample:
        """Give one sample another embedding and, if there is one, its person another description.

        Where the sample was of another space, its former embedding stays, as a sample with a number of its own.

        Returns:
            The sample as it is then.

        Raises:
            NotFound: the tenant has no such sample.
            SpaceMismatch, Answered, KeyReused, AnswerDeleted: see ``upsert``.
        """
        with self._transaction(tenant) as transaction, _done_once(transaction, tenant, once) as done:
            transaction.replace(number, space, vector)
            owner = transaction.owner(number)
            if description is not None:
                transaction.describe(owner, description)
            done.ids, done.samples = [owner], transaction.numbered([number])
        return done.samples[0]

    def describe(self, tenant: str, id: str, description: Description) -> None:
        """Give a person another name, metadata and action, or some of these.

        Raises:
            NotFound: the tenant has no such person.
        """
        with self._transaction(tenant) as transaction:
            transaction.describe(id, description)

    def delete(self, tenant: str, id: str) -> bool:
        """Delete a person with all samples and events; whether there was one."""
        with self._transaction(tenant) as transaction:
            return transaction.delete(id)

    def delete_sample(self, tenant: str, number: int) -> bool:
        """Delete one sample, and with the last one the person; whether there was one."""
        with self._transaction(tenant) as transaction:
            return transaction.delete_sample(number)

    def clear(self, tenant: str) -> int:
        """Delete all people of a tenant with their samples and events; returns how many samples there were."""
        with self._transaction(tenant) as transaction:
            return transaction.clear()

    def get(self, tenant: str, id: str) -> Person:
        """A person.

        Raises:
            NotFound: the tenant has no such person.
        """
        rows = self._rows(sql.GET, tenant=tenant, id=id)
        if not rows:
            raise NotFound("There is nobody with this id.")
        return person_of(*rows[0])

    def samples(self, tenant: str, id: str, after: int = -1, limit: int | None = None) -> Sequence[Sample]:
        """The samples of a person by ascending number; none when there is no such person.

        Only those with numbers above ``after``, and at most ``limit``.
        """
        limits = {"after": after, "limit": UNLIMITED if limit is None else limit}
        return [sample_of(*row) for row in self._rows(sql.SAMPLES, tenant=tenant, id=id, **limits)]

    def sample(self, tenant: str, number: int) -> Sample:
        """One sample.

        Raises:
            NotFound: the tenant has no such sample.
        """
        rows = self._rows(sql.BY_NUMBER, tenant=tenant, number=number)
        if not rows:
            raise NotFound("There is no sample with this number.")
        return sample_of(*rows[0])

    def after_number(self, tenant: str, after: int, limit: int) -> Sequence[Sample]:
        """At most ``limit`` of the tenant's samples of all people, by ascending numbers above ``after``."""
        return [sample_of(*row) for row in self._rows(sql.AFTER_NUMBER, tenant=tenant, after=after, limit=limit)]

    def by_keys(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """The tenant's samples with these keys; those that do not exist (any more) are left out."""
        wanted = {"tenant": tenant, "keys": json.dumps(list(keys))}
        with self._connections.reading() as connection:
            rows = connection.execute(sql.BY_KEYS[connection.kind], wanted).fetchall()
        return {row[0]: sample_of(*row) for row in rows}

    def page(
        self,
        tenant: str,
        limit: int,
        after: str | None = None,
        text: str | None = None,
        metadata: Sequence[Condition] = (),
    ) -> Page:
        """At most ``limit`` (≥ 1) people whose ids come after ``after``; None starts at the first.

        No more than fit into ``PAGE_BYTES``, but one at least. With ``text`` only those who have it in their id or
        name, without regard to case and accents (``naming.folded``). Only those whose metadata meet all conditions.
        """
        wanted = {
            "tenant": tenant,
            "after": after or "",  # no id is empty
            "text": None if text is None else folded(text),
            "limit": UNLIMITED if metadata else limit + 1,  # what a condition comes to is found out row by row
        } | listed(fragments(metadata))
        statements = sql.PAGE if text is None else sql.PAGE_OF_TEXT
        with (
            self._connections.reading() as connection,
            connection.stream(statements[connection.kind], wanted) as rows,
        ):
            return page_of(rows, limit, metadata)

    def count(self, tenant: str, space: str | None = None) -> int:
        """Number of the tenant's samples, of all spaces or of one."""
        rows = self._rows(sql.COUNT if space is None else sql.COUNT_SPACE, tenant=tenant, space=space)
        return int(rows[0][0])

    def people_without(self, space: str, tenant: str | None = None) -> Mapping[str, int]:
        """How many people of each tenant, or of one, have no sample of an embedding space, in all collections together.

        Who has none is left out.
        """
        return dict(self._rows(sql.PEOPLE_WITHOUT, space=space, tenant=tenant))

    def identity(self) -> str:
        """What tells this gallery from others: 32 hexadecimal digits that stay the same."""
        return str(self._rows(sql.IDENTITY)[0][0])

    def last_change(self) -> int:
        """Number of the last committed change, 0 in a new database."""
        with self._connections.reading() as connection:
            return int(connection.execute(sql.LAST_CHANGE[connection.kind]).fetchall()[0][0])

    def position(self) -> Position:
        """How far the database is. Costs microseconds; asked before every search."""
        with self._connections.reading() as connection:
            return history.position_of(connection)

    def has_passed(self, mark: int) -> bool:
        """Whether the database was at the position with this mark; of old ones it is forgotten, see ``history``.

        If not, the database was replaced, and whoever has followed it begins anew.
        """
        with self._connections.reading() as connection:
            return history.has_passed(connection, mark)

    def changes(self, since: int, limit: int, begun: int = 0) -> Sequence[Change]:
        """At most ``limit`` changes with numbers above ``since``, ascending, without deletions up to ``begun``.

        Only the latest change of a sample is kept, so a key appears once; numbers that later changes have
        superseded are missing. ``follow`` gives all of them.

        Args:
            since: whoever asks has applied all changes up to this one.
            limit: most changes.
            begun: number of the last change at a time when they had nothing of what was deleted until then.

        Raises:
            CursorExpired: tombstones of deletions after both are removed.
        """
        with self._connections.reading() as connection:
            rows = connection.execute(sql.CHANGES, {"since": since, "limit": limit, "begun": begun}).fetchall()
            history.check_change(connection, max(since, begun))
        return changes_of(rows)

    def feed(self, tenant: str, since: int, limit: int, begun: int = 0) -> Feed:
        """At most ``limit`` (≥ 1) of a tenant's samples and tombstones with revisions above ``since``, ascending.

        No more than fit into ``PAGE_BYTES``, but one at least.

        Only the latest state of a sample is kept, so a number appears once.

        Args:
            tenant: whose.
            since: whoever asks has applied everything up to this revision.
            limit: most entries.
            begun: the tenant's last revision at a time when they had nothing of what was deleted until then.

        Raises:
            CursorExpired: tombstones of deletions after both are removed.
        """
        wanted = {"tenant": tenant, "since": since, "limit": limit + 1}
        with self._connections.reading() as connection:
            with connection.stream(sql.FEED, wanted) as rows:
                feed = feed_of(rows, limit)
            history.check_revision(connection, tenant, max(since, begun))
        return feed

    def horizon(self) -> int:
        """Number of the last change whose tombstone is removed, 0 when all are there."""
        return int(self._rows(history.HORIZON)[0][0])

    def last_revision(self, tenant: str) -> int:
        """Revision of the tenant's last change, 0 when there was none."""
        return int(self._rows(sql.LAST_REVISION, tenant=tenant)[0][0])

    def compact(self) -> None:
        """Rewrite the database so that its files hold no remains of deleted samples and no unused space.

        Writers wait meanwhile; it takes time and room in proportion to the database.
        """
        self._connections.compact()

    def close(self) -> None:
        """Close all connections; using the store afterwards raises StorageError."""
        self._connections.close()

    def _rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, tenant: str) -> Iterator[Transaction]:
        """A transaction, which is committed at the end and rolled back on any error."""
        with self._connections.writing() as connection:
            transaction = Transaction(connection, tenant)
            yield transaction
            transaction.finish()

    @contextmanager
    def _adding(self, tenant: str, samples: Sequence[NewSample], quota: int | None) -> Iterator[Transaction]:
        """A transaction that adds samples, which nobody would own if there were no tenant."""
        with self._transaction(tenant) as transaction:
            if not transaction.has_tenant:  # it may have been deleted since the request was let in
                raise NotFound(UNKNOWN_TENANT)
            yield transaction
            check_quota(transaction, samples, quota)


@dataclass
class _Done:
    """What a transaction has stored: samples, and the ids of all whose they are."""

    samples: Sequence[Sample] = ()
    ids: Sequence[str] = ()


@contextmanager
def _done_once(transaction: Transaction, tenant: str, once: Once[Sequence[Sample]] | None) -> Iterator[_Done]:
    """Keeps the answer to a request, which is made of what is filled in; see ``answers``."""
    done = _Done()
    if once is not None:
        answers.find(transaction.connection, once)
    yield done
    if once is not None:
        answers.keep(transaction.connection, tenant, once, done.samples, done.ids)


def known_id(store: Store, tenant: str, id: str) -> str:
    """The id that somebody asks for: composed, unless somebody has it as it stands, from before ids were composed.

    Raises:
        StorageError, InvalidRequest: see ``Store``.
    """
    normal = composed(id)
    return id if normal != id and store.samples(tenant, id) else normal


CHUNK = 4096
"""Changes that ``follow`` gives at once."""


def follow(store: Store, since: int, begun: int = 0, chunk: int = CHUNK) -> Iterator[tuple[Sequence[Change], int]]:
    """All changes after a number, until there are no more, a chunk at a time.

    Args:
        store: whose.
        since, begun: see ``Store.changes``.
        chunk: most changes at once.

    Yields:
        Changes, and the number up to which these are all. There are none where only deletions up to ``begun`` were.

    Raises:
        CursorExpired, StorageError: see ``Store.changes``.
    """
    while (changes := store.changes(since, chunk, begun)) or since < begun:
        since = changes[-1].number if changes else begun
        yield changes, since
