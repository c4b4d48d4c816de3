"""The gallery: where samples (``store``), tenants (``directory``) and what happened (``events``) are kept, and how the
nearest samples are found (``search``).
"""

from __future__ import annotations

from dataclasses import dataclass

from face_detection.gallery.connections import Connections
from face_detection.gallery.directory import Directory
from face_detection.gallery.directory_sqlite import SQLiteDirectory
from face_detection.gallery.events import EventLog
from face_detection.gallery.events_sqlite import SQLiteEventLog
from face_detection.gallery.sqlite import SQLiteStore
from face_detection.gallery.store import Store
from shared.errors import SettingsError


@dataclass(frozen=True)
class Gallery:
    """The parts of one database."""

    store: Store
    directory: Directory
    events: EventLog

    def close(self) -> None:
        """Close the database; using any part afterwards raises StorageError."""
        self.store.close()


def open_gallery(database: str) -> Gallery:
    """Open what a DATABASE setting names, and create or migrate it where needed.

    Args:
        database: path of an SQLite database, or ``:memory:`` for one that ends with the process.

    Raises:
        SettingsError: a URL; no store speaks one.
        StartupError: the database cannot be opened, is damaged, or was written by a newer release.
    """
    if "://" in database:
        raise SettingsError("DATABASE must be a path or :memory:, not a URL.")
    connections = Connections(database)
    return Gallery(SQLiteStore(connections), SQLiteDirectory(connections), SQLiteEventLog(connections))


def open_store(database: str) -> Store:
    """The store alone, see ``open_gallery``."""
    return open_gallery(database).store
