"""The SQLite schema, as named migrations (``sqlite_utils.migrations``).

A migration that was released is never edited; a change of the schema is a new one at the end of ``STEPS``.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from shared.errors import StartupError


def create_samples(database: Database) -> None:
    """Tables for samples and embedding spaces.

    A row of ``samples`` is a sample or, when ``space`` is null, the tombstone of one. Rows are never removed, so
    neither keys nor change numbers are used twice. The vector stands last: SQLite reads the columns before it
    without touching the pages it overflows to.
    """
    database.execute(
        """
        CREATE TABLE spaces (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            dimensions INTEGER NOT NULL
        ) STRICT
        """
    )
    database.execute(
        """
        CREATE TABLE samples (
            key INTEGER PRIMARY KEY,
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            change INTEGER NOT NULL UNIQUE,
            space INTEGER REFERENCES spaces (number),
            name TEXT,
            metadata TEXT,
            action TEXT,
            created_at TEXT,
            updated_at TEXT,
            vector BLOB,
            UNIQUE (tenant, id),
            CHECK (
                (space IS NULL) = (vector IS NULL)
                AND (space IS NULL) = (name IS NULL)
                AND (space IS NULL) = (metadata IS NULL)
            )
        ) STRICT
        """
    )
    database.execute("CREATE INDEX samples_present ON samples (tenant, id, space) WHERE space IS NOT NULL")


STEPS = (create_samples,)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to the present schema, in the transaction that the caller has begun.

    Raises:
        StartupError: a newer release has migrated the database further than this one knows.
    """
    migrations = Migrations("gallery")
    for step in STEPS:
        migrations()(step)
    database = Database(connection, execute_plugins=False)
    unknown = {applied.name for applied in migrations.applied(database)} - {step.__name__ for step in STEPS}
    if unknown:
        raise StartupError(f"The database was written by a newer release (it has {', '.join(sorted(unknown))}).")
    migrations.apply(database)
