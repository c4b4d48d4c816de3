"""What can be examined of services that run, or could."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

from face_detection.cli.checks import Finding, State
from face_detection.cli.client import RemoteService, Unreachable
from face_detection.extraction import ExtractionClient, ServedModel
from shared.errors import ServiceError
from shared.settings import ExtractionSettings, FrontSettings, split_bind

_START = "Start both services: make run"


def checks_running(
    extraction: ExtractionSettings, front: FrontSettings, url: str, key: str | None, expected: bool
) -> Iterator[Finding]:
    """Examine the services.

    Args:
        extraction, front: their settings.
        url: address of the front.
        key: API key for it.
        expected: whether it must run.
    """
    served = _extraction(front.extraction_url)
    yield served
    yield _port("port of the extraction service", extraction.extraction_bind, served.state is State.WELL)
    answer = _front(url, key, expected)
    yield answer
    yield _port("port of the front", front.front_bind, answer.state is State.WELL)
    if answer.state is State.WELL and served.state is State.NOTE:
        # Another machine's, perhaps: then the settings here are not the front's.
        yield Finding(
            "settings", State.NOTE, f"the service at {url} uses another extraction service than EXTRACTION_URL"
        )


def _extraction(url: str) -> Finding:
    what = f"extraction service at {url}"

    async def ask() -> ServedModel:
        client = ExtractionClient(url, 10)
        try:
            await client.check_ready()
            return await client.model()
        finally:
            await client.close()

    try:
        model = asyncio.run(ask())
    except ServiceError as error:
        return Finding(what, State.NOTE, error.message, f"{_START}; or set EXTRACTION_URL; --local needs none.")
    return Finding(what, State.WELL, f"ready: {model.card.name} on {model.engine}, {model.device}")


def _front(url: str, key: str | None, expected: bool) -> Finding:
    what = f"service at {url}"
    try:
        service = RemoteService(url, key)
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.message, "Correct --url, FACE_URL or FACE_API_KEY.")
    try:
        ready = service.ready()
    except Unreachable as error:
        return Finding(what, State.BROKEN if expected else State.NOTE, error.message)
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.message, "See the log of the service.")
    finally:
        service.close()
    if "samples" not in ready:
        advice = "Put a key into FACE_API_KEY; the operator makes one: python -m face_detection keys create --help"
        return Finding(what, State.NOTE, "ready, but wants an API key" if key is None else "refuses the key", advice)
    found = f"ready: {ready.get('model')}, threshold {ready.get('min_distance')}, {ready['samples']} photos"
    return Finding(what, State.WELL, found)


def _port(what: str, bind: str, answers: bool) -> Finding:
    host, port = split_bind(bind)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if answers:
                return Finding(what, State.WELL, f"{bind} is in use, by the service")
            name = what.removeprefix("port of the ").split()[0]
            variables = {"front": "FRONT_BIND", "extraction": "EXTRACTION_BIND and EXTRACTION_URL"}[name]
            advice = f"Look what listens there (ss -ltnp), or choose another address: {variables}"
            return Finding(what, State.BROKEN, f"{bind} cannot be used: {error.strerror}", advice)
    return Finding(what, State.WELL, f"{bind} is free")
