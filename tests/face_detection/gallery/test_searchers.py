from __future__ import annotations

from typing import Any

import pytest

from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.remote.index import GALLERY_DIGITS
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.searchers import lock_of, searchers
from shared.errors import SearchUnavailable, SettingsError
from shared.models import Metric
from shared.service_process import free_port
from shared.settings import FrontSettings
from tests.gallery_samples import OTHER_SPACE, SPACE


def test_memory_is_the_default(gallery: Gallery) -> None:
    searcher = searchers(FrontSettings(), gallery)(SPACE, 8, Metric.COSINE)
    assert isinstance(searcher, MemoryIndex) and searcher.name == "memory"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"search": "pgvector"}, "SEARCH_URL=postgresql://"),
        ({"search": "pgvector", "search_url": "http://127.0.0.1:19530"}, "SEARCH_URL=postgresql://"),
        ({"search": "milvus"}, "SEARCH_URL=http://"),
        ({"search": "milvus", "search_url": "127.0.0.1:19530"}, "SEARCH_URL=http://"),
    ],
)
def test_an_index_elsewhere_needs_an_address(gallery: Gallery, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        searchers(FrontSettings(**settings), gallery)


@pytest.mark.parametrize(("search", "scheme"), [("pgvector", "postgresql://user:s3cret@"), ("milvus", "http://")])
def test_an_index_that_is_not_there_is_unavailable(
    gallery: Gallery, search: Any, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{scheme}127.0.0.1:{free_port()}"
    open_searcher = searchers(FrontSettings(search=search, search_url=url, search_token="user:s3cret"), gallery)
    with pytest.raises(SearchUnavailable) as caught:
        open_searcher(SPACE, 8, Metric.COSINE)
    assert "s3cret" not in caught.value.message + caplog.text


@pytest.mark.parametrize("setting", ["DATABASE", "SEARCH_URL"])
def test_the_setting_that_was_used_is_named(gallery: Gallery, setting: str, caplog: pytest.LogCaptureFixture) -> None:
    url = f"postgresql://user:s3cret@127.0.0.1:{free_port()}/x"
    open_searcher = searchers(FrontSettings(search="pgvector", **{setting.lower(): url}), gallery)
    with pytest.raises(SearchUnavailable):
        open_searcher(SPACE, 8, Metric.COSINE)
    assert f"{setting}=postgresql://user@127.0.0.1" in caplog.text and "s3cret" not in caplog.text
    assert ("SEARCH_URL" in caplog.text) == (setting == "SEARCH_URL")


def test_spaces_galleries_and_kinds_of_vectors_are_kept_apart(gallery: Gallery) -> None:
    other = open_gallery(":memory:")
    locks = {
        lock_of(where, space, metric)
        for where in (gallery, other)
        for space in (SPACE, OTHER_SPACE)
        for metric in (Metric.COSINE, Metric.EUCLIDEAN)
    }
    assert len(locks) == 8 and all(lock.startswith("search-") for lock in locks)
    assert len({lock[: len("search-") + GALLERY_DIGITS] for lock in locks}) == 2
    assert lock_of(gallery, SPACE, Metric.COSINE) == lock_of(gallery, SPACE, Metric.TENFOLD_UNIT_EUCLIDEAN)
    other.close()
