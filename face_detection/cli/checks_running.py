"""What can be examined of services that run, or could."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence

from face_detection.cli.checks import Finding, State
from face_detection.cli.service.remote import RemoteService, Unreachable
from face_detection.extraction.client import ExtractionClient, ServedModel
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
    workers = asyncio.run(_workers(front.extraction_urls))
    yield from workers
    answers = any(worker.state is State.WELL for worker in workers)
    yield _port("port of the extraction service", extraction.extraction_bind, answers)
    answer = _front(url, key, expected)
    yield answer
    yield _port("port of the front", front.front_bind, answer.found.startswith("ready"))
    if answer.state is State.WELL and not answers:
        # Another machine's, perhaps: then the settings here are not the front's.
        yield Finding(
            "settings", State.NOTE, f"the service at {url} uses another extraction service than EXTRACTION_URL"
        )


async def _workers(urls: Sequence[str]) -> list[Finding]:
    answers = await asyncio.gather(*map(_served, urls))
    spaces = {answer.space for answer in answers if isinstance(answer, ServedModel)}
    findings = []
    for url, answer in zip(urls, answers, strict=True):
        what = f"extraction service at {url}"
        if isinstance(answer, ServiceError):
            advice = f"{_START}; or set EXTRACTION_URL; --local needs none."
            findings.append(Finding(what, State.NOTE, answer.message, advice))
            continue
        found = f"ready: {answer.card.name} on {answer.engine}, {answer.device}"
        if len(spaces) > 1:
            advice = "A front refuses the workers of other models than the one in use: give all of them the same MODEL."
            findings.append(Finding(what, State.NOTE, f"{found}; of several models, this is {answer.space}", advice))
        else:
            findings.append(Finding(what, State.WELL, found))
    return findings


async def _served(url: str) -> ServedModel | ServiceError:
    client = ExtractionClient([url], 10)
    try:
        await client.check_ready()
        return await client.model()
    except ServiceError as error:
        return error
    finally:
        await client.close()


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
    if people := ready.get("people_of_other_models"):
        advice = "Enrol them again, or serve the model that they were enrolled under (MODEL)."
        return Finding(what, State.NOTE, f"{found}; {people} people have no photo of this model", advice)
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
