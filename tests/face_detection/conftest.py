from __future__ import annotations

from collections.abc import Iterator

import pytest

from face_detection.gallery import Gallery
from tests.galleries import open_gallery


@pytest.fixture
def gallery() -> Iterator[Gallery]:
    gallery = open_gallery(":memory:")
    yield gallery
    gallery.close()
