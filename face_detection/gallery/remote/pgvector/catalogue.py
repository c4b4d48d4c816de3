"""Which generations of an index there are in pgvector, and how far each has come."""

from __future__ import annotations

import secrets
from typing import NamedTuple

import psycopg

from face_detection.gallery.postgres.session import Session
from face_detection.gallery.remote.pgvector import statements as sql

_LOCK = 0x66616366
"""Of the advisory lock that whoever adds or removes generations takes turns with."""


class Generation(NamedTuple):
    """A table of vectors, and the change up to which it has them."""

    id: str
    position: int


class Catalogue:
    """The generations of one index; every method works in the session that it is given.

    Args:
        name: of the index, at most 20 hexadecimal digits.
        dimensions: of its vectors.
    """

    def __init__(self, name: str, dimensions: int) -> None:
        self._name = name
        self._dimensions = dimensions

    def table(self, generation: str) -> str:
        """Name of its table."""
        return sql.table_name(self._name, generation)

    def published(self, session: Session) -> Generation | None:
        """The generation that is searched; None if it was lost."""
        rows = session.execute(sql.PUBLISHED, (self._name,)).fetchall()
        return Generation(*rows[0]) if rows else None

    def unpublished(self, session: Session, generation: str) -> Generation | None:
        """One that is being made; None if it was lost or removed."""
        rows = session.execute(sql.UNPUBLISHED, (generation,)).fetchall()
        return Generation(*rows[0]) if rows else None

    def lock(self, session: Session, unpublished: str | None) -> Generation | None:
        """The same of either, which nobody changes before the caller's transaction has ended."""
        statement = sql.LOCK_PUBLISHED if unpublished is None else sql.LOCK_UNPUBLISHED
        rows = session.execute(statement, (unpublished or self._name,)).fetchall()
        return Generation(*rows[0]) if rows else None

    def ensure(self, session: Session) -> Generation:
        """The generation that is searched: a new one if it was lost or never was. Outside of transactions."""
        try:
            known = self.published(session)
        except psycopg.errors.UndefinedTable:
            known = None
        if known is None:
            with session.transaction():
                known = self.create(session)
        return known

    def create(self, session: Session) -> Generation:
        """The same within the caller's transaction, where others wait who do it too."""
        take_turn(session)
        session.execute(sql.CREATE_CATALOGUE)
        known = self.published(session)
        if known is None:
            session.execute(sql.REMOVE_PUBLISHED, (self._name,))
            known = self._add(session, published=True)
        return known

    def replace_unpublished(self, session: Session) -> Generation:
        """A new generation that nobody searches, instead of any that was left over."""
        self.ensure(session)
        with session.transaction():
            take_turn(session)
            session.execute(sql.REMOVE_UNPUBLISHED, (self._name,))
            new = self._add(session, published=False)
        self.sweep(session)
        return new

    def publish(self, session: Session, generation: str) -> bool:
        """Make a generation the one that is searched; whether it was still there."""
        with session.transaction():
            take_turn(session)
            # Whoever applies changes to the former one ends first.
            session.execute(sql.REMOVE_PUBLISHED, (self._name,))
            published = session.execute(sql.PUBLISH, (generation,)).rowcount == 1
            if not published:
                raise psycopg.Rollback
        self.sweep(session)
        return published

    def remove(self, session: Session, generation: str) -> None:
        """Remove a generation, unless it is published."""
        session.execute(sql.REMOVE, (generation,))
        self.sweep(session)

    def sweep(self, session: Session) -> None:
        """Drop the tables of generations that are gone, but for those that somebody is still building an index of."""
        sweep(session, self._name)

    def _add(self, session: Session, published: bool) -> Generation:
        generation = secrets.token_hex(8)
        session.execute(sql.ADD, (generation, self._name, published))
        session.execute(sql.create_table(self.table(generation), self._dimensions))
        return Generation(generation, 0)


def take_turn(session: Session) -> None:
    """Wait for the turn to add or remove generations, which lasts until the transaction ends."""
    session.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (_LOCK,))


def sweep(session: Session, name: str) -> None:
    """Drop the tables of an index that are not in the catalogue, but for those that somebody is still working on."""
    for (table,) in session.execute(sql.ORPHANS, {"name": name}).fetchall():
        try:
            with session.transaction():
                session.execute("SET LOCAL lock_timeout = '500ms'")
                session.execute(sql.drop_table(table))
        except psycopg.errors.LockNotAvailable:
            continue  # the next sweep drops it
