"""The gallery: where samples are kept (``store``) and how the nearest are found (``search``)."""

from __future__ import annotations

from face_detection.gallery.sqlite import SQLiteStore
from face_detection.gallery.store import Store
from shared.errors import SettingsError


def open_store(database: str) -> Store:
    """Open the store that a DATABASE setting names, and create or migrate it where needed.

    Args:
        database: path of an SQLite database, or ``:memory:`` for one that ends with the process.

    Raises:
        SettingsError: a URL; no store speaks one.
        StartupError: the database cannot be opened, is damaged, or was written by a newer release.
    """
    if "://" in database:
        raise SettingsError("DATABASE must be a path or :memory:, not a URL.")
    return SQLiteStore(database)
