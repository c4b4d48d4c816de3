"""The searcher that the settings ask for."""

from __future__ import annotations

import hashlib
import logging
from urllib.parse import urlsplit

from face_detection.gallery import Gallery, is_postgres
from face_detection.gallery.remote.index import GALLERY_DIGITS, VectorIndex, lock_to_apply
from face_detection.gallery.remote.searcher import RemoteSearcher
from face_detection.gallery.search.distances import compares_directions
from face_detection.gallery.search.memory import MemoryIndex
from face_detection.gallery.search.searcher import OpenSearcher, Searcher
from shared.errors import SearchUnavailable, SettingsError, StartupError
from shared.models import Metric
from shared.settings import FrontSettings

log = logging.getLogger(__name__)


def searchers(settings: FrontSettings, gallery: Gallery) -> OpenSearcher:
    """What opens searchers over a gallery.

    Raises:
        SettingsError: SEARCH needs another setting that is missing.
    """
    if settings.search == "memory":
        return lambda space, dimensions, metric: MemoryIndex(gallery.store, space, metric, settings.approximate_above)
    check_address(settings)

    def open_searcher(space: str, dimensions: int, metric: Metric) -> Searcher:
        try:
            index = open_index(settings, gallery, space, dimensions, metric)
        except StartupError as error:
            log.critical("the search index cannot be used: %s", error.message)
            raise SearchUnavailable("The search index cannot be used.") from error
        lock = lock_of(gallery, space, metric)
        pending = settings.search_overlay
        return RemoteSearcher(gallery.store, gallery.locks, lock, index, space, dimensions, metric, pending)

    return open_searcher


def check_address(settings: FrontSettings) -> None:
    """See that an index outside of the process has an address.

    Raises:
        SettingsError: see ``searchers``.
    """
    if settings.search == "pgvector" and not is_postgres(settings.search_url or settings.database):
        raise SettingsError(
            "SEARCH=pgvector needs SEARCH_URL=postgresql://user:password@host/name, or such a DATABASE."
        )
    if settings.search == "milvus" and urlsplit(settings.search_url or "").scheme not in ("http", "https"):
        raise SettingsError("SEARCH=milvus needs SEARCH_URL=http://host:19530.")


def open_index(settings: FrontSettings, gallery: Gallery, space: str, dimensions: int, metric: Metric) -> VectorIndex:
    """The index outside of the process for an embedding space; SEARCH must name one.

    Raises:
        StartupError: its client is not installed, or it cannot be used as it is.
        SearchUnavailable: it cannot be reached.
    """
    name = _name(gallery, space, metric)
    if settings.search == "pgvector":
        from face_detection.gallery.remote.pgvector.index import PgvectorIndex

        return PgvectorIndex(
            settings.search_url or settings.database,
            name,
            dimensions,
            space,
            metric,
            settings.search_candidates,
            settings.search_exact_below,
            "SEARCH_URL" if settings.search_url else "DATABASE",
        )
    from face_detection.gallery.remote.milvus.index import MilvusIndex

    return MilvusIndex(
        settings.search_url or "",
        settings.search_token,
        name,
        dimensions,
        space,
        metric,
        settings.search_candidates,
        settings.milvus_index,
        settings.milvus_partitions,
        settings.milvus_shards,
        settings.milvus_replicas,
    )


def lock_of(gallery: Gallery, space: str, metric: Metric) -> str:
    """Name of the lock to bring the index for an embedding space up to date."""
    return lock_to_apply(_name(gallery, space, metric))


def _name(gallery: Gallery, space: str, metric: Metric) -> str:
    """Digits of the gallery, and as many more. The vectors are the same for all metrics that compare directions."""
    vectors = "directions" if compares_directions(metric) else "raw"
    return "".join(
        hashlib.blake2b(text.encode(), digest_size=GALLERY_DIGITS // 2).hexdigest()
        for text in (gallery.store.identity(), f"{space}\0{vectors}")
    )
