"""The front's composition root: the only place where concrete classes are built."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from face_detection.api import faces, original, samples, status
from face_detection.api.bodies import SETTINGS
from face_detection.api.middleware import GATE, METRICS, MIDDLEWARES, PLAIN_ERRORS, Gate
from face_detection.api.openapi import describe
from face_detection.api.operations import RECOGNITION, Operation
from face_detection.detection import YuNet
from face_detection.extraction import ExtractionClient
from face_detection.gallery import open_store
from face_detection.gallery.memory import MemoryIndex
from face_detection.metrics import Metrics
from face_detection.preparation import Preparation
from face_detection.recognition import Recognition
from shared.errors import ServiceError, StartupError
from shared.images import ImageDecoder
from shared.settings import FrontSettings

VERSION = "0.1.0"

OPERATIONS: tuple[Operation, ...] = (
    *original.OPERATIONS,
    *faces.OPERATIONS,
    *samples.OPERATIONS,
    *status.OPERATIONS,
)

log = logging.getLogger(__name__)

_BOOT_ERROR = 3
"""gunicorn gives up on a worker that exits with this (its Arbiter.WORKER_BOOT_ERROR), others it starts again."""


def create_app(settings: FrontSettings | None = None) -> web.Application:
    """Build the application.

    Args:
        settings: read from the environment when None.

    Raises:
        StartupError: the database or the detector's weights cannot be used.
    """
    settings = settings or FrontSettings.from_environment()
    metrics = Metrics()
    recognition = Recognition(
        Preparation(
            ImageDecoder(settings.max_image_bytes, settings.max_image_pixels),
            YuNet(settings),
            settings.detection_max_side,
            settings.decode_threads,
            metrics,
        ),
        ExtractionClient(settings.extraction_url, settings.extraction_timeout),
        open_store(settings.database),
        MemoryIndex,
        settings,
        metrics,
    )
    # Bodies are read with limits of their own (api/bodies.py).
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=0)
    app[SETTINGS] = settings
    app[METRICS] = metrics
    app[RECOGNITION] = recognition
    app[GATE] = Gate()
    app[PLAIN_ERRORS] = frozenset(operation.path for operation in OPERATIONS if operation.plain_errors)
    app[status.OPENAPI] = describe(OPERATIONS, VERSION)
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, operation.handler)
    app.router.add_static("/static", status.WEB)
    app.cleanup_ctx.append(_run_recognition)
    return app


def serve() -> web.Application:
    """The application for gunicorn: one that cannot start says why in one line and stops the whole service."""
    try:
        return create_app()
    except StartupError as error:
        log.critical("cannot start: %s", error.message)
        sys.exit(_BOOT_ERROR)


async def _run_recognition(app: web.Application) -> AsyncIterator[None]:
    warming = asyncio.create_task(_warm_up(app[RECOGNITION]))
    yield
    warming.cancel()
    with suppress(asyncio.CancelledError):
        await warming
    await app[RECOGNITION].close()


async def _warm_up(recognition: Recognition) -> None:
    """Ask the extraction service until it answers, and load the index, before the first client has to wait for it."""
    while True:
        try:
            await recognition.check_ready()
        except ServiceError as error:
            log.info("waiting: %s", error.message)
            await asyncio.sleep(1)
        else:
            model = await recognition.model()
            log.info("ready", extra={"model": model.card.name, "engine": model.engine, "device": model.device})
            return
