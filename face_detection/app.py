"""The front's composition root: the only place where concrete classes are built."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial

from aiohttp import web

from face_detection.access import Access
from face_detection.api.doors import dataset, keyed, original, totem, training
from face_detection.api.http.authentication import guarded
from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.failures import speak_plainly
from face_detection.api.http.idempotency import ANSWERS
from face_detection.api.http.load import LOAD, Load
from face_detection.api.http.middleware import FAILURES, METRICS, MIDDLEWARES
from face_detection.api.http.origins import CHANGING, let_apps_read
from face_detection.api.openapi import describe
from face_detection.api.operation import ACCESS, COLLECTIONS, DIRECTORY, PEOPLE, POOL, RECOGNITION, Operation, lenient
from face_detection.api.own import (
    calibration,
    collections,
    companies,
    conflicts,
    events,
    faces,
    live,
    offline,
    people,
    status,
)
from face_detection.api.own.live_conversation import LIVE
from face_detection.extraction.client import ExtractionClient
from face_detection.fetching import PictureFetcher, parse_hosts
from face_detection.gallery import Gallery, GalleryPool, open_gallery
from face_detection.gallery.search.approximate import load_library
from face_detection.gallery.searchers import searchers
from face_detection.journal import Journal
from face_detection.live.session import LiveRecognition
from face_detection.metrics import Metrics
from face_detection.people import People
from face_detection.recognition.crops import Preparation
from face_detection.recognition.detection import YuNet
from face_detection.recognition.identification import Identifier
from face_detection.recognition.readiness import Readiness, Shared
from face_detection.recognition.service import Recognition
from face_detection.upkeep import Upkeep
from shared import __version__
from shared.background import until_done
from shared.errors import ServiceError, SettingsError, StartupError
from shared.images import ImageDecoder
from shared.settings import FrontSettings, is_loopback

OPERATIONS: tuple[Operation, ...] = (
    *original.OPERATIONS,
    *faces.OPERATIONS,
    *people.OPERATIONS,
    *conflicts.OPERATIONS,
    *events.OPERATIONS,
    *companies.OPERATIONS,
    *collections.OPERATIONS,
    *calibration.OPERATIONS,
    *lenient(totem.OPERATIONS),
    *lenient(training.OPERATIONS),
    *lenient(dataset.OPERATIONS),
    *lenient(keyed.OPERATIONS),
    *live.OPERATIONS,
    *offline.OPERATIONS,
    *status.OPERATIONS,
)

log = logging.getLogger(__name__)

_BOOT_ERROR = 3
"""gunicorn gives up on a worker that exits with this (its Arbiter.WORKER_BOOT_ERROR), others it starts again."""

KEEP_ALIVE = 75.0
"""Seconds for which an idle connection stays open."""

LAST_REQUESTS = 16.0
"""Seconds that requests under way have at the end; what follows must fit into the rest of ``graceful_timeout``."""

LAST_WRITES, LAST_EVENTS = 4.0, 6.0
"""Seconds that writes of requests have, which were ended by that, and then events."""


@dataclass(frozen=True)
class Core:
    """All that works without HTTP, over one database. What has coroutines lives in one event loop."""

    gallery: Gallery
    metrics: Metrics
    pool: GalleryPool
    journal: Journal
    upkeep: Upkeep
    preparation: Preparation
    extraction: ExtractionClient
    identifier: Identifier
    recognition: Recognition
    readiness: Readiness
    people: People

    async def close(self) -> None:
        """Finish what is under way, write the events of it, then close everything; each also if another fails to."""
        async with AsyncExitStack() as last:
            last.callback(self.gallery.close)
            last.callback(self.pool.close)
            last.push_async_callback(asyncio.to_thread, self.identifier.close)
            last.push_async_callback(asyncio.to_thread, self.journal.close, LAST_EVENTS)
            last.push_async_callback(asyncio.to_thread, self.upkeep.close)
            last.push_async_callback(self.recognition.close, LAST_WRITES)
            last.push_async_callback(self.readiness.close)


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
    journal = Journal(gallery.events, gallery.answers, gallery.directory, settings.event_days, metrics)
    preparation = Preparation(
        ImageDecoder(settings.max_image_bytes, settings.max_image_pixels),
        detector,
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
    upkeep = Upkeep(gallery.store, gallery.tombstones, gallery.locks, settings.sync_days, identifier.lag)
    return Core(
        gallery, metrics, pool, journal, upkeep, preparation, extraction, identifier, recognition, readiness, people
    )


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
    # Bodies are read with limits of their own (api/http/bodies.py).
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=0)
    speak_plainly(app)
    app[SETTINGS] = settings
    app[METRICS] = core.metrics
    app[RECOGNITION] = core.recognition
    app[LIVE] = LiveRecognition(
        core.preparation, core.extraction, core.identifier, core.pool, core.metrics, settings.request_timeout
    )
    app[live.SESSIONS] = live.Sessions(settings.live_sessions)
    app[offline.EXTRACTION] = core.extraction
    app[PEOPLE] = core.people
    app[status.READINESS] = core.readiness
    app[status.STRANGERS] = Shared(partial(status.answer_strangers, app))
    app[dataset.FETCHER] = PictureFetcher(parse_hosts(settings.image_url_hosts), settings.max_image_bytes)
    app[ACCESS] = access
    app[COLLECTIONS] = core.gallery.collections
    app[DIRECTORY] = core.gallery.directory
    app[POOL] = core.pool
    app[ANSWERS] = core.gallery.answers
    app[LOAD] = Load(settings.max_pending_requests, settings.max_pending_bytes)
    app[FAILURES] = {operation.path: operation.failure for operation in OPERATIONS if operation.failure}
    app[status.OPENAPI] = _description()
    app[CHANGING] = frozenset(operation.path for operation in OPERATIONS if operation.changes)
    _add_routes(app, settings.base_path)
    app.on_response_prepare.append(let_apps_read)
    app.on_shutdown.append(live.close_sessions)
    app.cleanup_ctx.append(_run(core))
    return app


# Most of the time that making an application takes, and the same for all of a process.
@cache
def _description() -> dict[str, object]:
    return describe(OPERATIONS, __version__)


def _add_routes(app: web.Application, base_path: str | None) -> None:
    """Serve everything at its address, and the same below ``base_path``, for a proxy that passes that on."""
    for base in ("", base_path) if base_path else ("",):
        for operation in OPERATIONS:
            handler = guarded(operation)
            # An id may have braces, which aiohttp's own pattern of a parameter leaves out.
            path = operation.path.replace("}", ":[^/]+}")
            app.router.add_route(operation.method, base + path, handler)
            if operation.safe:
                app.router.add_route("HEAD", base + path, handler)
        app.router.add_static(f"{base}/static", status.WEB)
    if base_path:
        own = re.compile("|".join(re.sub(r"{\w+}", "[^/]+", operation.path) for operation in OPERATIONS) + "|/static.*")
        if any(own.fullmatch(base_path + path) for path in ("", *(operation.path for operation in OPERATIONS))):
            raise SettingsError(f"BASE_PATH={base_path} is where the service has addresses of its own; choose another.")
        app.router.add_get(base_path, status.to_console)


def _refuse_open_bind(settings: FrontSettings, access: Access) -> None:
    """Refuse an address that other machines can reach unless an API key, or ALLOW_ANONYMOUS, says who may come."""
    if not (settings.allow_anonymous or is_loopback(settings.front_bind) or access.protected()):
        raise SettingsError(
            f"Refusing to bind to {settings.front_bind}: there is no API key, so anybody who reaches it could use the "
            "service. Make one (python -m face_detection keys create --help), bind to 127.0.0.1, or set "
            "ALLOW_ANONYMOUS=true if that is what you want."
        )


def serve() -> Callable[[], Awaitable[web.AppRunner]]:
    """What gunicorn runs; an application that cannot start says why in one line and stops the whole service."""
    try:
        app = create_app()
    except StartupError as error:
        log.critical("cannot start: %s", error.explained)
        sys.exit(_BOOT_ERROR)

    async def runner() -> web.AppRunner:
        # aiohttp waits so long for a request, ends the reading of its body, and waits as long once more.
        return web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE, shutdown_timeout=LAST_REQUESTS / 2)

    return runner


def _run(core: Core) -> Callable[[web.Application], AsyncIterator[None]]:
    """What runs beside the requests, and how it ends: what is under way is finished, then everything is closed."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        core.journal.start()
        core.upkeep.start()
        warming = asyncio.create_task(until_done("warming up", partial(_warm_up, core)))
        yield
        log.info("requests have ended; what is under way is finished")
        async with AsyncExitStack() as last:
            last.push_async_callback(core.close)
            last.push_async_callback(app[dataset.FETCHER].close)
            warming.cancel()
            await asyncio.wait([warming])

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
            with suppress(ServiceError):  # whoever asks /readyz is told, too
                for company, people in (await core.readiness.unseen()).items():
                    log.warning(
                        "%d people of company %s have no photo of the model in use and are not found", people, company
                    )
            return
