"""The front's composition root: the only place where concrete classes are built."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from face_detection.access import Access
from face_detection.api import (
    companies,
    company,
    company_keys,
    dataset,
    events,
    faces,
    keyed,
    live,
    offline,
    original,
    people,
    status,
    training,
)
from face_detection.api.bodies import SETTINGS
from face_detection.api.gate import GATE, Gate
from face_detection.api.guard import guarded
from face_detection.api.live_conversation import LIVE
from face_detection.api.middleware import FAILURES, METRICS, MIDDLEWARES, STREAMS
from face_detection.api.openapi import describe
from face_detection.api.operations import ACCESS, DIRECTORY, PEOPLE, RECOGNITION, Operation
from face_detection.detection import YuNet
from face_detection.extraction import ExtractionClient
from face_detection.fetching import PictureFetcher, parse_hosts
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.approximate import load_library
from face_detection.gallery.searchers import searchers
from face_detection.identification import Identifier
from face_detection.journal import Journal
from face_detection.live import LiveRecognition
from face_detection.metrics import Metrics
from face_detection.people import People
from face_detection.pool import GalleryPool
from face_detection.preparation import Preparation
from face_detection.readiness import Readiness
from face_detection.recognition import Recognition
from shared.errors import ServiceError, SettingsError, StartupError
from shared.images import ImageDecoder
from shared.settings import FrontSettings, is_loopback

VERSION = "0.1.0"

OPERATIONS: tuple[Operation, ...] = (
    *original.OPERATIONS,
    *faces.OPERATIONS,
    *people.OPERATIONS,
    *events.OPERATIONS,
    *companies.OPERATIONS,
    *company_keys.OPERATIONS,
    *company.OPERATIONS,
    *training.OPERATIONS,
    *dataset.OPERATIONS,
    *keyed.OPERATIONS,
    *live.OPERATIONS,
    *offline.OPERATIONS,
    *status.OPERATIONS,
)

log = logging.getLogger(__name__)

_BOOT_ERROR = 3
"""gunicorn gives up on a worker that exits with this (its Arbiter.WORKER_BOOT_ERROR), others it starts again."""


@dataclass(frozen=True)
class Core:
    """All that works without HTTP, over one database. What has coroutines lives in one event loop."""

    gallery: Gallery
    metrics: Metrics
    pool: GalleryPool
    journal: Journal
    preparation: Preparation
    extraction: ExtractionClient
    identifier: Identifier
    recognition: Recognition
    readiness: Readiness
    people: People

    async def close(self) -> None:
        """Finish what is under way, then close everything."""
        await self.recognition.close()
        await self.journal.close()
        await self.pool.run(self.identifier.close)
        self.pool.close()
        self.gallery.close()


def build_core(settings: FrontSettings) -> Core:
    """Build the core; nothing is asked of the extraction service yet.

    Raises:
        StartupError: the database, the detector's weights or a library that a setting asks for cannot be used.
    """
    if settings.approximate_above:
        load_library()
    metrics = Metrics()
    detector = YuNet(settings)
    gallery = open_gallery(settings.database)
    pool = GalleryPool()
    journal = Journal(gallery.events, gallery.directory, pool, settings.event_days)
    preparation = Preparation(
        ImageDecoder(settings.max_image_bytes, settings.max_image_pixels),
        detector,
        settings.detection_max_side,
        settings.decode_threads,
        metrics,
    )
    extraction = ExtractionClient(settings.extraction_urls, settings.extraction_timeout, metrics.observe_workers)
    open_searcher = searchers(settings, gallery)
    identifier = Identifier(gallery.store, gallery.directory, journal, open_searcher, settings, metrics)
    recognition = Recognition(
        preparation, extraction, gallery.store, gallery.directory, identifier, journal, pool, settings, metrics
    )
    readiness = Readiness(gallery.store, extraction, identifier, pool)
    people = People(gallery.store, gallery.events, pool)
    return Core(gallery, metrics, pool, journal, preparation, extraction, identifier, recognition, readiness, people)


def create_app(settings: FrontSettings | None = None) -> web.Application:
    """Build the application.

    Args:
        settings: read from the environment when None.

    Raises:
        StartupError: the database, the detector's weights or a library that a setting asks for cannot be used, or
            strangers could use the service.
    """
    settings = settings or FrontSettings.from_environment()
    core = build_core(settings)
    access = Access(core.gallery.directory, settings.allow_anonymous, core.gallery.rates)
    _refuse_open_bind(settings, access)
    # Bodies are read with limits of their own (api/bodies.py).
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=0)
    app[SETTINGS] = settings
    app[METRICS] = core.metrics
    app[RECOGNITION] = core.recognition
    app[LIVE] = LiveRecognition(
        core.preparation, core.extraction, core.identifier, core.pool, core.metrics, settings.request_timeout
    )
    app[live.SESSIONS] = live.Sessions()
    app[offline.EXTRACTION] = core.extraction
    app[PEOPLE] = core.people
    app[status.READINESS] = core.readiness
    app[dataset.FETCHER] = PictureFetcher(parse_hosts(settings.image_url_hosts), settings.max_image_bytes)
    app[ACCESS] = access
    app[DIRECTORY] = core.gallery.directory
    app[GATE] = Gate()
    app[STREAMS] = frozenset(operation.path for operation in OPERATIONS if operation.stream_types)
    app[FAILURES] = {operation.path: operation.failure for operation in OPERATIONS if operation.failure}
    app[status.OPENAPI] = describe(OPERATIONS, VERSION)
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, guarded(operation))
    app.router.add_static("/static", status.WEB)
    app.on_shutdown.append(live.close_sessions)
    app.cleanup_ctx.append(_run(core))
    return app


def _refuse_open_bind(settings: FrontSettings, access: Access) -> None:
    """Refuse an address that other machines can reach unless an API key, or ALLOW_ANONYMOUS, says who may come."""
    if not (settings.allow_anonymous or is_loopback(settings.front_bind) or access.protected()):
        raise SettingsError(
            f"Refusing to bind to {settings.front_bind}: there is no API key, so anybody who reaches it could use the "
            "service. Make one (python -m face_detection keys create --help), bind to 127.0.0.1, or set "
            "ALLOW_ANONYMOUS=true if that is what you want."
        )


def serve() -> web.Application:
    """The application for gunicorn: one that cannot start says why in one line and stops the whole service."""
    try:
        return create_app()
    except StartupError as error:
        log.critical("cannot start: %s", error.message)
        sys.exit(_BOOT_ERROR)


def _run(core: Core) -> Callable[[web.Application], AsyncIterator[None]]:
    """What runs beside the requests, and how it ends: what is under way is finished, then everything is closed."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_warm_up(core)), asyncio.create_task(core.journal.run())]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await app[dataset.FETCHER].close()
        await core.close()

    return run


async def _warm_up(core: Core) -> None:
    """Ask the extraction service until it answers, and load the index, before the first client has to wait for it."""
    while True:
        try:
            await core.readiness.check()
        except ServiceError as error:
            log.info("waiting: %s", error.message)
            await asyncio.sleep(1)
        else:
            model = await core.extraction.model()
            log.info("ready", extra={"model": model.card.name, "engine": model.engine, "device": model.device})
            return
