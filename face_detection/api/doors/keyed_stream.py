"""Photos of a user as a stream: each is learned and answered as it comes, and no more than one is held at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel

from face_detection.api.doors import keyed_schemas as schemas
from face_detection.api.http.bodies import SETTINGS, UNREADABLE, most_picture_bytes, parse_json, read_query, validate
from face_detection.api.http.idempotency import first_attempt_at_part
from face_detection.api.http.load import PLACE
from face_detection.api.http.multipart import read_parts
from face_detection.api.http.slow_clients import leaving
from face_detection.api.operation import CALLER, RECOGNITION, dump, json_response, occasion_of, of_conflicts
from face_detection.api.schemas import ConflictWarning, FaceBox
from face_detection.gallery.sql.answers import Answered
from face_detection.recognition.choice import Choose, clear_face
from face_detection.recognition.crops import Encoded
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.service import Added
from shared import logs, wire
from shared.errors import DeadlinePassed, ImageTooLarge, InvalidRequest, ServiceError
from shared.models import Effort, OnConflict

MOST_PHOTOS = 1000
"""In one stream."""

_MULTIPART = ("multipart/form-data", "multipart/mixed")
_NDJSON = "application/x-ndjson"
STREAM_TYPES = (*_MULTIPART, _NDJSON)
"""Content types of a stream."""

_USER_NAME = "userName"
_MAX_OTHER = 4096
"""Bytes of a line beside its picture."""

Messages = AsyncGenerator[schemas.StreamMessage | ServiceError]
"""What a stream consists of; an error stands for a photo that cannot be read."""


async def train_stream(request: web.Request) -> web.StreamResponse:
    """Learn photos as they come. What was learned stays, however the stream ends."""
    query = validate(schemas.STREAM_QUERY, read_query(request))
    training = _Training(request, query.user_name, query.face or clear_face, query.detection, query.on_conflict)
    try:
        await training.run()
    except ServiceError as error:
        if not training.response.prepared:
            raise
        await training.finish(error)
    except web.RequestPayloadError as error:
        unreadable = InvalidRequest(UNREADABLE)
        if not training.response.prepared:
            raise unreadable from error
        await training.finish(unreadable)
    except (ConnectionError, HttpProcessingError) as error:
        # The client is gone, or does not speak HTTP any more.
        if not training.response.prepared:
            raise InvalidRequest("The stream has broken off.") from error
    else:
        await training.finish()
    return training.response


class _Training:
    """One stream.

    Args:
        request: the stream.
        user: whose photos; None when the stream begins with the name.
        face: which face of each photo.
        effort: how hard to look for it; as the setting says when None.
        action: what becomes of one that contradicts others; as the setting says when None.
    """

    def __init__(
        self, request: web.Request, user: str | None, face: Choose, effort: Effort | None, action: OnConflict | None
    ) -> None:
        self.response = web.StreamResponse(
            headers={
                "Content-Type": _NDJSON,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                wire.REQUEST_ID_HEADER: logs.request_id.get(),
            }
        )
        self._request = request
        self._settings = request.app[SETTINGS]
        self._user = user
        self._face = face
        self._effort = effort
        self._conflicts = of_conflicts(request, action)
        self._learned = self._failed = 0
        self._ends = asyncio.get_running_loop().time() + self._settings.batch_timeout

    async def run(self) -> None:
        """Learn until the stream ends.

        Raises:
            InvalidRequest: it is malformed, has no photo or too many, or names several users.
            DeadlinePassed: it takes too long.
            ConnectionError, HttpProcessingError: the client is gone.
        """
        async with aclosing(_messages(self._request)) as messages:
            async for message in self._in_time(messages):
                await self._take(message)
        if not self.response.prepared:
            raise InvalidRequest("The stream has no photo.")

    async def finish(self, error: ServiceError | None = None) -> None:
        """Write the last line, if there is still somebody who reads it."""
        failed = error is not None or not self._learned
        said = f"Photos learned: {self._learned} of {self._learned + self._failed}."
        summary = schemas.StreamSummary(
            response_type="FAILURE" if failed else "SUCCESS",
            success_description=None if failed else said,
            failure_description=(error.message if error else said) if failed else None,
            error_code=error.code if error else None,
            learned=self._learned,
            failed=self._failed,
        )
        with suppress(ConnectionError):
            await self._write(summary, last=True)

    async def _take(self, message: schemas.StreamMessage | ServiceError) -> None:
        started = time.perf_counter()
        picture: Encoded | ServiceError | None = message if isinstance(message, ServiceError) else message.picture
        if isinstance(message, schemas.StreamMessage):
            self._user = self._user or message.user_name
            if message.user_name not in (None, self._user):
                raise InvalidRequest("A stream is of one user only.")
        if self._user is None:
            raise InvalidRequest(f"{_USER_NAME}: must come in the query or at the beginning of the stream")
        if picture is None:
            return
        if self._learned + self._failed == MOST_PHOTOS:
            raise InvalidRequest(f"The stream has more than {MOST_PHOTOS} photos.")
        number = self._learned + self._failed + 1

        def answer(outcome: Added | ServiceError) -> schemas.StreamedPhoto:
            error, added = (outcome, None) if isinstance(outcome, ServiceError) else (None, outcome)
            return schemas.StreamedPhoto(
                photo=number,
                response_type="FAILURE" if error else "SUCCESS",
                failure_description=error.message if error else None,
                error_code=error.code if error else None,
                box=FaceBox.of(added.face.box) if added else None,
                faces=added.faces if added else None,
                warnings=ConflictWarning.all_of(added.conflict) if added else None,
                detection_time=round(time.perf_counter() - started, 4),
            )

        if isinstance(picture, ServiceError):
            said = answer(picture)
        else:
            said = await self._learn(number, self._user, picture, answer)
        self._failed += said.error_code is not None
        self._learned += said.error_code is None
        await self._write(said)
        self._request[PLACE].hold(0)  # whatever has come of the next photo is little

    async def _learn(
        self, number: int, user: str, picture: Encoded, answer: Callable[[Added | ServiceError], schemas.StreamedPhoto]
    ) -> schemas.StreamedPhoto:
        """Learn a photo. Whatever may be wrong with it, the next one has its own chance.

        A stream that is sent again with its Idempotency-Key is known photo by photo, and goes on where it has ended.
        """
        caller = self._request[CALLER]

        def respond(outcomes: Sequence[Added | ServiceError]) -> web.Response:
            (outcome,) = outcomes
            if isinstance(outcome, ServiceError):
                raise outcome
            return json_response(dump(answer(outcome)))

        try:
            attempt = await first_attempt_at_part(self._request, caller.tenant, respond, number, (user, picture))
            outcomes = await self._request.app[RECOGNITION].add(
                caller.tenant,
                [Enrolment(user, user, picture, face=self._face, effort=self._effort, conflicts=self._conflicts)],
                occasion_of(self._request),
                caller.max_samples,
                seconds=self._seconds_left(),
                once=attempt.once,
            )
            body = attempt.response(outcomes).body
        except ServiceError as error:
            return answer(error)
        except Answered as again:
            kept = schemas.StreamedPhoto.model_validate_json(again.answer.body)
            return kept.model_copy(update={"replayed": True})
        assert isinstance(body, bytes)
        return schemas.StreamedPhoto.model_validate_json(body)

    async def _write(self, line: BaseModel, last: bool = False) -> None:
        """Write a line; a client that does not read for too long is cut off like one that is gone."""
        data = orjson.dumps(line.model_dump(mode="json", exclude_none=True)) + b"\n"
        async with leaving(self._request, self._settings.request_timeout):
            if not self.response.prepared:
                await self.response.prepare(self._request)
            await (self.response.write_eof if last else self.response.write)(data)

    async def _in_time(self, messages: Messages) -> AsyncIterator[schemas.StreamMessage | ServiceError]:
        """The messages until the stream has taken too long; a photo that is being learned is not broken off."""
        seconds = self._settings.request_timeout
        while True:
            try:
                async with asyncio.timeout(min(seconds, self._seconds_left())):
                    message = await anext(messages, None)
            except TimeoutError as error:
                if self._seconds_left():
                    raise DeadlinePassed(f"No photo came within {seconds:g} seconds.") from error
                raise DeadlinePassed(
                    f"The stream did not end within {self._settings.batch_timeout:g} seconds."
                ) from error
            if message is None:
                return
            yield message

    def _seconds_left(self) -> float:
        return max(0.0, self._ends - asyncio.get_running_loop().time())


def _most_bytes(request: web.Request) -> int:
    return most_picture_bytes(request) + _MAX_OTHER


def _messages(request: web.Request) -> Messages:
    if request.content_type in _MULTIPART:
        return _read_parts(request)
    if request.content_type == _NDJSON:
        return _read_messages(request)
    raise InvalidRequest(f"The content type must be one of {', '.join(STREAM_TYPES)}.")


async def _read_parts(request: web.Request) -> Messages:
    """A part with the user's name, unless the query has it, and a part for each photo."""
    content_type, chunks = request.headers["Content-Type"], _chunks(request)
    name_comes = _USER_NAME not in request.query
    async with aclosing(read_parts(content_type, chunks, _most_bytes(request))) as parts:
        async for part in parts:
            if part.content is None:
                yield _too_large(request)
            elif part.name == _USER_NAME or (name_comes and part.name is None):
                yield validate(schemas.STREAM_MESSAGE, {_USER_NAME: part.content})
            else:
                yield schemas.StreamMessage(picture=part.content)
            name_comes = False


async def _read_messages(request: web.Request) -> Messages:
    """A JSON object on each line."""
    async for line in _read_lines(request, _most_bytes(request)):
        if line is None:
            yield _too_large(request)
        elif line.strip():
            try:
                yield validate(schemas.STREAM_MESSAGE, await parse_json(line))
            except InvalidRequest as error:
                yield error


async def _read_lines(request: web.Request, limit: int) -> AsyncGenerator[bytes | None]:
    """The lines of a body; None for one that has more than ``limit`` bytes and is skipped."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in _chunks(request):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield None if size + len(end) > limit else b"".join([*pieces, end])
            pieces, size = [], 0
        size += len(rest)
        if size > limit:
            pieces = []
        elif rest:
            pieces.append(rest)
    if size:
        yield None if size > limit else b"".join(pieces)


async def _chunks(request: web.Request) -> AsyncGenerator[bytes]:
    """The body as it comes, which counts until the photo that it belongs to has been answered."""
    place, most = request[PLACE], _most_bytes(request)  # of a photo that has more, nothing is kept
    async for chunk in request.content.iter_any():
        place.hold(min(place.size + len(chunk), most))
        yield chunk


def _too_large(request: web.Request) -> ImageTooLarge:
    return ImageTooLarge(f"The encoded image has more than {request.app[SETTINGS].max_image_bytes} bytes.")
