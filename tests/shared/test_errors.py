"""The tree in the docstring, the codes, and the statuses that both services give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

import feature_extraction.app as extraction
from shared import errors, wire
from shared.errors import ServiceError, StartupError

StatusOf = Callable[[ServiceError], int]


def tree(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


ALL = list(tree(ServiceError))
FOR_CLIENTS = [kind for kind in ALL if not issubclass(kind, StartupError)]
FAMILIES = {"ImageError", "ExtractionError", "StartupError"}
"""Bases that the drawing shows without a code, since they are never raised themselves."""

DESIGNED = {
    "ServiceError": 500,
    "InvalidRequest": 400,
    "ImageError": 422,
    "ImageTooLarge": 413,
    "TooManyPixels": 413,
    "UnsupportedImage": 415,
    "UndecodableImage": 422,
    "ImageByReference": 422,
    "FetchFailed": 422,
    "Unauthorized": 401,
    "Forbidden": 403,
    "HostNotAllowed": 421,
    "QuotaExceeded": 403,
    "FaceNotFound": 422,
    "AmbiguousFace": 422,
    "LowQuality": 422,
    "NotFound": 404,
    "Conflict": 409,
    "SpaceMismatch": 409,
    "NoPhotoOfModel": 409,
    "NotCalibrated": 409,
    "PhotoConflict": 409,
    "UnsupportedRate": 400,
    "TooFewPhotos": 400,
    "KeyReused": 409,
    "AnswerDeleted": 409,
    "CursorExpired": 410,
    "BodyTooLarge": 413,
    "RequestTooSlow": 408,
    "Overloaded": 429,
    "RateLimited": 429,
    "NotReady": 503,
    "ExtractionError": 502,
    "ExtractionFailed": 502,
    "ExtractionUnavailable": 503,
    "LivenessUnavailable": 501,
    "DeadlinePassed": 504,
    "StorageError": 500,
    "StorageRefused": 500,
    "StorageUnavailable": 503,
    "SearchUnavailable": 503,
}

# The extraction service is the tier itself: to its client its own failure is an internal error.
DESIGNED_EXTRACTION = DESIGNED | {"ExtractionFailed": 500, "ExtractionError": 503}


def drawn() -> list[tuple[int, str, str]]:
    """The lines of the drawing: depth, name, and code if there is one."""
    assert errors.__doc__
    rows = [(0, "ServiceError", "")]
    for line in errors.__doc__.splitlines():
        found = re.match(r"^ {4}((?:│   |    )*)[├└]── (\w+)(?: +([a-z_]+)\b)?", line)
        if found:
            rows.append((len(found[1]) // 4 + 1, found[2], found[3] or ""))
    return rows


def test_the_drawing_is_the_tree() -> None:
    def walk(kind: type[ServiceError], depth: int) -> Iterator[tuple[int, str, str]]:
        yield depth, kind.__name__, "" if kind is ServiceError or kind.__name__ in FAMILIES else kind.code
        for below in kind.__subclasses__():
            if below.__module__ == errors.__name__:
                yield from walk(below, depth + 1)

    assert drawn() == list(walk(ServiceError, 0))


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [vars(kind)["code"] for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", ALL)
def test_the_message_is_kept(kind: type[ServiceError]) -> None:
    error = kind("What is wrong.")
    assert error.message == str(error) == "What is wrong."


def test_there_is_nothing_outside_the_tree() -> None:
    raised = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert raised == set(ALL)


@pytest.mark.parametrize("kind", FOR_CLIENTS)
def test_the_front_gives_the_designed_status(kind: type[ServiceError]) -> None:
    assert wire.status_of(kind("…")) == DESIGNED[kind.__name__]


@pytest.mark.parametrize("kind", FOR_CLIENTS)
def test_the_extraction_service_gives_the_designed_status(kind: type[ServiceError]) -> None:
    assert extraction.status_of(kind("…")) == DESIGNED_EXTRACTION[kind.__name__]


def test_no_status_is_made_for_what_only_the_operator_sees() -> None:
    assert not [kind for kind in wire.STATUS if issubclass(kind, StartupError)]


@pytest.mark.parametrize("status_of", [wire.status_of, extraction.status_of])
@pytest.mark.parametrize("kind", FOR_CLIENTS)
def test_a_retry_is_suggested_exactly_where_it_may_help(status_of: StatusOf, kind: type[ServiceError]) -> None:
    if kind is not errors.ExtractionError:  # never raised itself
        assert (status_of(kind("…")) in (429, 503)) == (kind.retry_after is not None)
