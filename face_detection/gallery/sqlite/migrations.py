"""The SQLite schema, as named migrations (``sqlite_utils.migrations``).

A migration that was released is never edited; a change of the schema is a new one at the end of ``STEPS``.
"""

# ruff: noqa: S608 -- the names of tables are constants

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from face_detection.gallery.sql.history import new_mark
from face_detection.gallery.sql.rows import search_text
from face_detection.naming import composed
from shared.errors import StartupError

# sqlite_utils loads pandas where that is installed, half a second for kinds of columns that nothing here has.
_absent = sys.modules.setdefault("pandas", None) is None  # type: ignore[arg-type]
from sqlite_utils import Database  # noqa: E402
from sqlite_utils.migrations import Migrations  # noqa: E402

if _absent:
    del sys.modules["pandas"]


def create_samples(database: Database) -> None:
    """Tables for samples and embedding spaces.

    A row of ``samples`` is a sample or, when ``space`` is null, the tombstone of one. The last rows are never removed,
    so neither keys nor change numbers are used twice. The vector stands last: SQLite reads the columns before it
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


def add_tenants(database: Database) -> None:
    """Tables for tenants, their API keys, and the sectors and capture devices of companies."""
    database.execute(
        """
        CREATE TABLE tenants (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            settings TEXT NOT NULL,
            created_at TEXT NOT NULL
        ) STRICT
        """
    )
    database.execute(
        """
        INSERT INTO tenants (id, name, settings, created_at)
        SELECT id, id, '{}', strftime('%Y-%m-%dT%H:%M:%fZ')
        FROM (SELECT 'default' AS id UNION SELECT tenant FROM samples)
        """
    )
    database.execute(
        """
        CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            tenant TEXT NOT NULL REFERENCES tenants (id),
            name TEXT NOT NULL,
            rights TEXT NOT NULL,
            salt BLOB NOT NULL,
            hash BLOB NOT NULL,
            requests_per_minute INTEGER,
            max_samples INTEGER,
            created_at TEXT NOT NULL,
            expires_at TEXT,
            revoked_at TEXT
        ) STRICT
        """
    )
    database.execute(
        """
        CREATE TABLE sectors (
            tenant TEXT NOT NULL REFERENCES tenants (id),
            code INTEGER NOT NULL,
            name TEXT NOT NULL,
            PRIMARY KEY (tenant, code)
        ) STRICT
        """
    )
    database.execute(
        """
        CREATE TABLE devices (
            tenant TEXT NOT NULL REFERENCES tenants (id),
            code INTEGER NOT NULL,
            name TEXT NOT NULL,
            sector INTEGER,
            PRIMARY KEY (tenant, code),
            FOREIGN KEY (tenant, sector) REFERENCES sectors (tenant, code)
        ) STRICT
        """
    )


def give_people_several_samples(database: Database) -> None:
    """Names and metadata move from samples to people, who have one sample or more.

    A sample has a number that is unique within its tenant, and a revision that orders its tenant's changes: the
    time of the change in microseconds, or the first free number after the revision before. A tombstone keeps
    nothing but tenant, number, change and revision.
    """
    database.execute(
        """
        CREATE TABLE people (
            key INTEGER PRIMARY KEY,
            tenant TEXT NOT NULL,
            id TEXT NOT NULL,
            name TEXT NOT NULL,
            metadata TEXT NOT NULL,
            action TEXT,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            UNIQUE (tenant, id)
        ) STRICT
        """
    )
    database.execute(
        """
        INSERT INTO people (tenant, id, name, metadata, action, created_at, updated_at)
        SELECT tenant, id, name, metadata, action, created_at, updated_at
        FROM samples WHERE space IS NOT NULL ORDER BY key
        """
    )
    database.execute("ALTER TABLE samples RENAME TO former_samples")
    database.execute("DROP INDEX samples_present")
    database.execute(
        """
        CREATE TABLE samples (
            key INTEGER PRIMARY KEY,
            tenant TEXT NOT NULL,
            number INTEGER NOT NULL,
            change INTEGER NOT NULL UNIQUE,
            revision INTEGER NOT NULL,
            person INTEGER REFERENCES people (key),
            space INTEGER REFERENCES spaces (number),
            vector BLOB,
            UNIQUE (tenant, number),
            UNIQUE (tenant, revision),
            CHECK ((person IS NULL) = (space IS NULL) AND (person IS NULL) = (vector IS NULL))
        ) STRICT
        """
    )
    database.execute(
        """
        INSERT INTO samples (key, tenant, number, change, revision, person, space, vector)
        SELECT
            former_samples.key,
            former_samples.tenant,
            row_number() OVER (PARTITION BY former_samples.tenant ORDER BY former_samples.key),
            change,
            1000000 * unixepoch() + change,
            people.key,
            space,
            vector
        FROM former_samples LEFT JOIN people
            ON people.tenant = former_samples.tenant AND people.id = former_samples.id AND space IS NOT NULL
        """
    )
    database.execute("DROP TABLE former_samples")
    database.execute("CREATE INDEX samples_present ON samples (tenant, space) WHERE space IS NOT NULL")
    database.execute("CREATE INDEX samples_of_person ON samples (person, number) WHERE person IS NOT NULL")


def add_events(database: Database) -> None:
    """A log of who was enrolled and recognised; ``number`` counts within the tenant, ``at`` is in microseconds."""
    database.execute(
        """
        CREATE TABLE events (
            tenant TEXT NOT NULL,
            number INTEGER NOT NULL,
            at INTEGER NOT NULL,
            kind TEXT NOT NULL,
            person INTEGER REFERENCES people (key),
            distance REAL,
            api_key TEXT,
            device INTEGER,
            latitude REAL,
            longitude REAL,
            crop BLOB,
            PRIMARY KEY (tenant, number)
        ) STRICT
        """
    )
    database.execute("CREATE INDEX events_at ON events (tenant, at)")
    database.execute("CREATE INDEX events_of_person ON events (person, number) WHERE person IS NOT NULL")


def name_the_gallery(database: Database) -> None:
    """A random name, by which whoever keeps copies of the samples elsewhere tells galleries apart."""
    database.execute("CREATE TABLE gallery (id TEXT PRIMARY KEY) STRICT")
    database.execute("INSERT INTO gallery (id) VALUES (lower(hex(randomblob(16))))")


def count_requests(database: Database) -> None:
    """Nothing: each process counts the requests of a key in its memory.

    In a file, each request would take the one write lock and sync the disk.
    """


def keep_answers(database: Database) -> None:
    """Answers to requests that may be sent again, and of whom they tell; see ``answers``.

    A key is a hash, and an answer whose body is null told of somebody who was deleted since.
    """
    database.execute(
        """
        CREATE TABLE answers (
            key BLOB PRIMARY KEY,
            tenant TEXT NOT NULL,
            fingerprint BLOB NOT NULL,
            at INTEGER NOT NULL,
            status INTEGER NOT NULL,
            headers TEXT,
            body BLOB
        ) STRICT
        """
    )
    database.execute("CREATE INDEX answers_at ON answers (at)")
    database.execute("CREATE INDEX answers_of_tenant ON answers (tenant)")
    database.execute(
        """
        CREATE TABLE answers_about (
            person INTEGER NOT NULL REFERENCES people (key),
            answer BLOB NOT NULL REFERENCES answers (key),
            PRIMARY KEY (person, answer)
        ) STRICT
        """
    )
    database.execute("CREATE INDEX answers_about_answer ON answers_about (answer)")


def keep_event_numbers(database: Database) -> None:
    """The number of each tenant's last event, which outlives the event and the tenant."""
    database.execute("CREATE TABLE last_numbers (tenant TEXT PRIMARY KEY, event INTEGER NOT NULL) STRICT")
    database.execute("INSERT INTO last_numbers (tenant, event) SELECT tenant, max(number) FROM events GROUP BY tenant")


def find_events(database: Database) -> None:
    """Indexes for events of a time, of a capture device and of a kind."""
    database.execute("DROP INDEX events_at")
    database.execute("CREATE INDEX events_at ON events (tenant, at, number)")
    database.execute("CREATE INDEX events_of_device ON events (tenant, device, number) WHERE device IS NOT NULL")
    database.execute("CREATE INDEX events_of_kind ON events (tenant, kind, number)")


def write_alike(database: Database) -> None:
    """What looks alike is written alike, and can be searched without regard to case and accents.

    The index has all that a search reads, which so leaves embeddings and metadata alone.
    """
    database.execute("ALTER TABLE people ADD COLUMN search TEXT NOT NULL DEFAULT ''")
    rows = database.execute("SELECT key, tenant, id, name FROM people ORDER BY key").fetchall()
    database.conn.executemany("UPDATE people SET id = ?, name = ?, search = ? WHERE key = ?", written_alike(rows))
    for table in NAMED_TABLES:
        names = [name for (name,) in database.execute(f"SELECT DISTINCT name FROM {table}").fetchall()]
        renamed = [(composed(name), name) for name in names if composed(name) != name]
        database.conn.executemany(f"UPDATE {table} SET name = ? WHERE name = ?", renamed)
    database.execute("CREATE INDEX people_search ON people (tenant, id, search)")


NAMED_TABLES = ("tenants", "keys", "sectors", "devices")


def written_alike(rows: Sequence[tuple[int, str, str, str]]) -> Iterator[tuple[str, str, str, int]]:
    """New ids, names and search texts of people, with their keys.

    An id that would become another's stays as it is, so that nobody is joined; a blank name becomes the id.

    Args:
        rows: key, tenant, id and name of everybody.
    """
    claims = Counter((tenant, composed(id)) for _, tenant, id, _ in rows)
    for key, tenant, id, name in rows:
        if claims[tenant, composed(id)] == 1:
            id = composed(id)
        name = composed(name) if name.strip() else id
        yield id, name, search_text(id, name), key


def let_go_of_tombstones(database: Database) -> None:
    """Up to which change and revision tombstones of each tenant are removed, see ``history``."""
    database.execute(
        """
        CREATE TABLE horizons (
            tenant TEXT PRIMARY KEY,
            change INTEGER NOT NULL,
            revision INTEGER NOT NULL
        ) STRICT
        """
    )
    database.execute("CREATE INDEX horizons_change ON horizons (change)")
    database.execute("CREATE INDEX samples_deleted ON samples (revision) WHERE space IS NULL")


def mark_changes(database: Database) -> None:
    """Marks of the latest transactions, see ``history``: ``change`` is the number of the last change in each."""
    database.execute(
        """
        CREATE TABLE marks (
            number INTEGER PRIMARY KEY,
            change INTEGER NOT NULL,
            mark INTEGER NOT NULL UNIQUE
        ) STRICT
        """
    )
    statement = "INSERT INTO marks (change, mark) SELECT max(change), ? FROM samples HAVING count(*) > 0"
    database.execute(statement, (new_mark(),))


def add_collections(database: Database) -> None:
    """Further galleries of tenants, see ``collections``."""
    database.execute(
        """
        CREATE TABLE collections (
            tenant TEXT NOT NULL REFERENCES tenants (id),
            name TEXT NOT NULL,
            gallery TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL,
            PRIMARY KEY (tenant, name)
        ) STRICT
        """
    )


STEPS = (
    create_samples,
    add_tenants,
    give_people_several_samples,
    add_events,
    name_the_gallery,
    count_requests,
    keep_answers,
    keep_event_numbers,
    find_events,
    write_alike,
    let_go_of_tombstones,
    mark_changes,
    add_collections,
)


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
        raise StartupError(
            f"The database was written by a newer release (it has {', '.join(sorted(unknown))}).",
            "Install that release or a later one, or let DATABASE name another database.",
        )
    migrations.apply(database)
