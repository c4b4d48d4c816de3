"""Opening galleries for tests, whose samples are of tenants that the directory must know."""

from __future__ import annotations

from contextlib import suppress

from face_detection import gallery
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.sql.store import Store
from shared.errors import Conflict

TENANTS = "tuvwxy"


def open_gallery(database: str) -> gallery.Gallery:
    """``face_detection.gallery.open_gallery``, in a gallery with ``TENANTS``, whichever process creates them."""
    opened = gallery.open_gallery(database)
    known = {tenant.id for tenant in opened.directory.tenants()}
    for id in sorted(set(TENANTS) - known):
        with suppress(Conflict):
            opened.directory.create_tenant(id, id, TenantSettings())
    return opened


def remove_tombstones(opened: gallery.Gallery) -> None:
    """Remove all tombstones that can be, however young they are."""
    while opened.tombstones.remove(2**62):
        pass


def open_store(database: str) -> Store:
    """The store of such a gallery."""
    return open_gallery(database).store
