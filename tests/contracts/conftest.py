"""What the contracts are about: each kind of database, and each kind of index elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from face_detection.gallery import Gallery
from face_detection.gallery.sql.store import Store
from tests.contracts.databases import DATABASES
from tests.contracts.vector_indexes import VECTOR_INDEXES, Place
from tests.galleries import open_gallery


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """DATABASE for a new gallery."""
    return DATABASES[request.param](request)


@pytest.fixture
def gallery(database: str) -> Iterator[Gallery]:
    """A new gallery, whose directory knows ``TENANTS``."""
    with closing(open_gallery(database)) as gallery:
        yield gallery


@pytest.fixture
def store(gallery: Gallery) -> Store:
    """That of the gallery."""
    return gallery.store


@pytest.fixture(params=VECTOR_INDEXES)
def place(request: pytest.FixtureRequest) -> Place:
    """Where indexes of a kind are."""
    return VECTOR_INDEXES[request.param](request)
