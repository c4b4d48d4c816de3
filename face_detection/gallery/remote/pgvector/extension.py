"""The extension pgvector of a PostgreSQL server: whether it is there, and what its version can do."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psycopg

from face_detection.gallery.postgres.session import Session
from shared.errors import StartupError

_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"

_ABSENT = "its server does not have the extension vector: install pgvector 0.5 or later."

_ADVICE = "an administrator has to run CREATE EXTENSION vector in this database"


@dataclass(frozen=True, order=True)
class Version:
    """A version of pgvector."""

    major: int
    minor: int

    @property
    def iterative(self) -> bool:
        """Whether a search by HNSW goes on until it has found as many as it was asked for."""
        return self >= Version(0, 8)

    def graph(self, dimensions: int, unit_length: bool) -> bool | None:
        """What an HNSW index may hold: half precision (True), single (False), or none of it (None).

        Half precision halves the index, and moves distances of vectors at unit length by less than a thousandth; it
        ends at 65,504, which other vectors may exceed.
        """
        if unit_length and self >= Version(0, 7) and dimensions <= 4000:
            return True
        return False if dimensions <= 2000 else None


def ensure_extension(session: Session) -> Version:
    """The version of pgvector in a database, where it is created if it has to be, in the caller's transaction.

    Raises:
        StartupError: it is not there and cannot be created, or is too old.
    """
    found = session.execute(_VERSION).fetchall()
    if not found:
        try:
            session.execute("CREATE EXTENSION vector")
        except psycopg.errors.InsufficientPrivilege as error:
            raise StartupError(f"its user may not create the extension vector: {_ADVICE}.") from error
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
            raise StartupError(
                "its server does not have the extension vector: install pgvector 0.5 or later."
            ) from error
        found = session.execute(_VERSION).fetchall()
    version = version_of(found[0][0])
    if version < Version(0, 5):
        raise StartupError(
            f"its extension vector has version {found[0][0]}: install pgvector 0.5 or later, then run "
            "ALTER EXTENSION vector UPDATE in this database."
        )
    return version


def version_of(text: str) -> Version:
    """Read what PostgreSQL calls the version of the extension, as in 0.6.2."""
    major, minor = map(int, re.findall(r"\d+", text)[:2])
    return Version(major, minor)
