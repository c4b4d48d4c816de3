"""Collections: several galleries in one tenant, as ``sql.collections`` keeps them.

People, samples, events and kept answers belong to a gallery, which its key names. A tenant's default collection is
the gallery whose key is the tenant's id. Those of the others begin with it (``<tenant>/<random>``), so that settings,
keys and quotas, which are the tenant's, are found without a look at the database. None is ever used again: a
collection that is created anew under a former name has nothing of the former one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.errors import InvalidRequest

DEFAULT_COLLECTION = "default"
UNKNOWN_COLLECTION = "There is no such collection."

MAX_COLLECTIONS = 1000
"""Most collections of one tenant, beside the default one."""

# A name stands in addresses, where "." and ".." would mean something else.
COLLECTION_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}"

_SEPARATOR = "/"  # no tenant's id has one
_RANDOM_BYTES = 16


@dataclass(frozen=True)
class Collection:
    """A collection; ``gallery`` is the key of its gallery, ``created_at`` is in UTC."""

    tenant: str
    name: str
    gallery: str
    created_at: datetime


@dataclass(frozen=True)
class Contents:
    """How many people and samples, of all embedding spaces, a collection has."""

    people: int
    samples: int


@dataclass(frozen=True)
class CollectionPage:
    """Some of the collections, by name; ``next`` is the name after which others come, None if none do."""

    collections: Sequence[Collection]
    next: str | None


def new_gallery(tenant: str) -> str:
    """Key for the gallery of another collection of a tenant."""
    return f"{tenant}{_SEPARATOR}{secrets.token_hex(_RANDOM_BYTES)}"


def tenant_of(gallery: str) -> str:
    """Id of the tenant whose gallery this is."""
    return gallery.partition(_SEPARATOR)[0]


def check_collection_name(name: str) -> None:
    """Raise InvalidRequest for a name that does not match ``COLLECTION_NAME``."""
    if not re.fullmatch(COLLECTION_NAME, name):
        raise InvalidRequest("A collection's name must be 1 to 255 characters of A-Z, a-z, 0-9, '.', '_' and '-'.")
