"""A live session between handshake and end: its messages; keeps the newest frame, answers one after the other."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.access import Caller, demand
from face_detection.api import schemas
from face_detection.api.http.bodies import parse_json, validate
from face_detection.api.operation import ACCESS, DIRECTORY
from face_detection.api.schemas import ErrorDetail, Measured, NamedReason, WithLiveness, WithQuality
from face_detection.api.validation import OwnRequest, Real, Whole
from face_detection.gallery.directory import Right, StoredKey
from face_detection.gallery.events import Occasion
from face_detection.live.session import LiveFace, LiveRecognition, LiveSession
from face_detection.live.visits import LEAVE_AFTER
from shared import exact_json
from shared.calibration import with_other_name
from shared.errors import Forbidden, InvalidRequest, NotFound, Overloaded, ServiceError, Unauthorized
from shared.formats import LONGEST_SIGNATURE, format_of

LIVE: web.AppKey[LiveRecognition] = web.AppKey("live", LiveRecognition)

CLOSE_IDLE = 4408
CLOSE_CODES: Mapping[type[ServiceError], int] = {
    InvalidRequest: 4400,
    Unauthorized: 4401,
    Forbidden: 4403,
    Overloaded: 4429,
    ServiceError: WSCloseCode.INTERNAL_ERROR,
}
"""Codes of errors that end a session, like the HTTP statuses of the same errors."""

IDLE_SECONDS = 60.0
"""Without a frame a session ends."""

KEY_SECONDS = 10.0
"""Within these the message with the key must come."""

_MAX_TEXT = 4096
"""Characters of a text message."""

_UNMEASURED: Mapping[str, Any] = {"faces": {"__all__": {*Measured.model_fields}}}
"""What is left out of answers to whoever does not want to know how well faces can be recognised."""

_CHECK_SECONDS = 2.0
_SEND_SECONDS = 10.0
_MOST_TEXTS = 20
_TEXT_SECONDS = 10.0
_MOST_REASON = 120
_NUMBER = struct.Struct(">I")
_PLAIN = 0x80
"""First byte from which on a message has no number, whatever it is: numbers are below 2³¹."""


class SessionSettings(schemas.ThresholdOptions, OwnRequest):
    """A text message: settings from now on. What is left out stays, null takes a setting back."""

    liveness: WithLiveness | None = None
    device: Annotated[Whole, Field(ge=0, lt=2**63)] | None = Field(
        default=None, description="Code of the company's capture device, for the event log."
    )
    latitude: Annotated[Real, Field(ge=-90, le=90)] | None = Field(
        default=None, description="Degrees, for the event log."
    )
    longitude: Annotated[Real, Field(ge=-180, le=180)] | None = Field(
        default=None, description="Degrees, for the event log."
    )
    leave_after: Annotated[Real, Field(gt=0, le=86400)] | None = Field(
        default=None,
        description="Seconds unseen after which a visit is over; whoever is seen again earlier goes on with it. "
        f"null: {LEAVE_AFTER:g}.",
    )
    fps: Annotated[Real, Field(gt=0, le=1000)] | None = Field(
        default=None,
        description="For a recording, before its first frame: how many of the frames' numbers make a second. Otherwise "
        "the time of a frame is that at which it comes.",
    )

    quality: WithQuality | None = None


class FirstMessage(SessionSettings):
    """The first text message, which may bring the API key."""

    api_key: Annotated[str, Field(max_length=256)] | None = None


class LiveFaceAnswer(Measured):
    """A face of a frame; how well it can be recognised is that of when it was last compared."""

    track: int = Field(description="Number that the face keeps from frame to frame of this session.")
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the upright frame.")
    angle: schemas.HeadAngle
    id: str | None = Field(description="Who it is; null for somebody unknown.")
    name: str | None
    metadata: Any
    reason: NamedReason
    liveness: float | None = Field(
        description="How sure it is that the face is of a person before the camera, from 0 to 1: the mean of its "
        "latest frames. Null where that is not checked."
    )
    distance: float | None = Field(description="Null before the first embedding and in an empty gallery.")
    trust: float = Field(description="0 to 100.")
    threshold: float | None = Field(
        description="Below which a distance counts as a match; null before the first embedding."
    )
    threshold_rate: schemas.ThresholdRate
    false_match_rate: schemas.MatchRate
    margin: schemas.Margin
    ambiguous: schemas.Ambiguous
    firm: bool = Field(description="Whether several frames agree on who it is.")
    visit: int | None = Field(
        description="Number of the visit of this person or stranger in this session, which goes on when they step out "
        "of view for less than `leave_after` seconds; null before it is sure who it is."
    )
    embedded: bool = Field(description="Whether the face was compared in this frame, or only followed.")

    @classmethod
    def of(cls, face: LiveFace, measured: bool) -> LiveFaceAnswer:
        """The answer for a face, and if that is wanted for how well it can be recognised."""
        box, person = face.box, face.person
        answer = cls(
            track=face.track,
            box=(box.x, box.y, box.width, box.height),
            angle=face.angle,
            id=person.id if person else None,
            name=person.name if person else None,
            metadata=person.metadata if person else None,
            reason=face.reason,
            liveness=None if face.liveness is None else round(face.liveness, 4),
            distance=None if face.distance is None else round(face.distance, 4),
            trust=round(face.trust, 1),
            **schemas.findings(face),
            firm=face.firm,
            visit=face.visit,
            embedded=face.embedded,
        )
        return answer.measured(face.quality) if measured and face.quality else answer


class FrameAnswer(BaseModel):
    """What the server sends for a frame."""

    frame: int = Field(description="Its number.")
    width: int
    height: int
    milliseconds: float = Field(description="Time that the frame took, without waiting for its turn.")
    skipped: int = Field(description="Frames before this one that were dropped since the last answer.")
    faces: list[LiveFaceAnswer]


class ErrorMessage(BaseModel):
    """What the server sends for a frame, or for settings, that it cannot use; the session goes on."""

    error: ErrorDetail
    frame: int | None = Field(description="Null for a text message.")
    skipped: int = 0


LIVE_ANSWER: TypeAdapter[FrameAnswer | ErrorMessage] = TypeAdapter(FrameAnswer | ErrorMessage)
FIRST: TypeAdapter[FirstMessage] = TypeAdapter(FirstMessage)
_SETTINGS_MESSAGE: TypeAdapter[SessionSettings] = TypeAdapter(SessionSettings)


def split_frame(message: bytes, expected: int) -> tuple[int, bytes]:
    """The number and the picture of a binary message.

    Args:
        message: a picture, perhaps after its number in 4 bytes, big-endian.
        expected: number of a picture without one.

    Raises:
        InvalidRequest: there is no picture.
    """
    numbered = format_of(message[_NUMBER.size : _NUMBER.size + LONGEST_SIGNATURE]) is not None
    if message and not numbered and (message[0] >= _PLAIN or format_of(message) is not None):
        return expected, message
    if len(message) <= _NUMBER.size:
        raise InvalidRequest("A frame is a JPEG, perhaps after a number in four bytes.")
    (number,) = _NUMBER.unpack_from(message)
    return number, message[_NUMBER.size :]


log = logging.getLogger(__name__)


async def authenticate(request: web.Request, text: str | None) -> Caller:
    """Whom a key is from, see ``Access.authenticate``."""
    return await asyncio.to_thread(request.app[ACCESS].authenticate, text)


class _Closed(Exception):
    """The session is over: with which code and reason; without a code when the connection is beyond closing."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        self.code = code
        self.reason = reason


class Conversation:
    """One session.

    Only the newest frame waits while another is worked on: an older one that waits is dropped and counted. So at most
    three frames are in memory, with the one that is being received.

    Args:
        request: the handshake.
        socket: prepared.
        caller: whom it is from; None when the first message must tell.
        known: is told whom it is from when a message has told.
    """

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        caller: Caller | None,
        known: Callable[[Caller], None],
    ) -> None:
        self._request = request
        self._socket = socket
        self._caller = caller
        self._known = known
        self._stored: StoredKey | None = None
        self._settings = SessionSettings()
        self._session: LiveSession | None = None
        self._newest: tuple[int, bytes | ServiceError] | None = None
        self._arrived = asyncio.Event()
        self._skipped = 0
        self._last_number: int | None = None
        self._begun = False
        self._texts: deque[float] = deque(maxlen=_MOST_TEXTS)
        self._last_frame = time.monotonic()

    async def run(self) -> None:
        """Talk until the client leaves or must go, and close the connection."""
        code: int | None = WSCloseCode.OK
        reason = ""
        try:
            await self._talk()
        except _Closed as closed:
            code, reason = closed.code, closed.reason
        except ServiceError as error:
            code = next(CLOSE_CODES[kind] for kind in type(error).__mro__ if kind in CLOSE_CODES)
            reason = error.message
        except ConnectionError:
            code = None
        except Exception:
            log.exception("unexpected error")
            code, reason = WSCloseCode.INTERNAL_ERROR, "Internal error."
        if code is not None:
            await self._socket.close(code=code, message=reason.encode()[:_MOST_REASON])

    async def _talk(self) -> None:
        if self._caller is None:
            try:
                await self._take_first(await self._first_text())
            except NotFound as error:  # the key is valid, the device is not
                await self._send(_error(error, None))
        elif self._caller.key is not None:
            self._stored = await self._find_key(self._caller.key)
        tasks = [asyncio.create_task(part) for part in (self._receive(), self._work(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_text(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(KEY_SECONDS):
                message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                return _text(message)
            if message.type is not WSMsgType.BINARY:
                raise _Closed(None)
        raise Unauthorized("The first message must be a text with the API key.")

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                self._take_frame(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._take_text(message)
            else:
                raise _Closed(None)
            # Messages that are there already are received without a pause; others want their turn.
            await asyncio.sleep(0)

    def _take_frame(self, data: bytes) -> None:
        self._begun = True
        self._last_frame = time.monotonic()
        number = 0 if self._last_number is None else self._last_number + 1
        frame: bytes | ServiceError
        try:
            number, frame = split_frame(data, number)
        except InvalidRequest as error:
            frame = error
        self._last_number = number
        self._skipped += self._newest is not None
        self._newest = (number, frame)
        self._arrived.set()

    async def _take_text(self, message: WSMessage) -> None:
        now = time.monotonic()
        if len(self._texts) == _MOST_TEXTS and now - self._texts[0] < _TEXT_SECONDS:
            raise Overloaded("There are too many text messages.")
        self._texts.append(now)
        text = _text(message)
        try:
            if self._begun or (self._caller and self._caller.key):
                await self._configure(await _parse(text, _SETTINGS_MESSAGE))
            else:
                await self._take_first(text)
        except (InvalidRequest, NotFound) as error:
            await self._send(_error(error, None))
        self._begun = True

    async def _take_first(self, text: str) -> None:
        """The message that may bring a key, and must if nobody is known yet."""
        first = await _parse(text, FIRST)
        if first.api_key is not None or self._caller is None:
            caller = await authenticate(self._request, first.api_key)
            demand(caller, Right.RECOGNISE)
            self._stored = await self._find_key(caller.key) if caller.key else None
            self._caller = caller
            self._known(caller)
        await self._configure(first)

    async def _configure(self, changes: SessionSettings) -> None:
        assert self._caller is not None
        given = {name: getattr(changes, name) for name in changes.model_fields_set if name != "api_key"}
        if "fps" in given and self._last_number is not None:
            raise InvalidRequest("fps: must come before the first frame")
        if (device := given.get("device")) is not None:
            await asyncio.to_thread(self._request.app[DIRECTORY].device, self._caller.tenant, device)
        self._settings = self._settings.model_copy(update=with_other_name(given))

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            assert self._newest is not None
            (number, frame), self._newest = self._newest, None
            skipped, self._skipped = self._skipped, 0
            try:
                answer: BaseModel = await self._process(number, frame, skipped)
            except ServiceError as error:
                answer = _error(error, number, skipped)
            await self._send(answer, {} if self._settings.quality else _UNMEASURED)

    async def _process(self, number: int, frame: bytes | ServiceError, skipped: int) -> FrameAnswer:
        if isinstance(frame, ServiceError):
            raise frame
        started = time.perf_counter()
        fps = self._settings.fps
        result = await self._open_session().process(frame, number / fps if fps else None)
        return FrameAnswer(
            frame=number,
            width=result.width,
            height=result.height,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            skipped=skipped,
            faces=[LiveFaceAnswer.of(face, bool(self._settings.quality)) for face in result.faces],
        )

    def _open_session(self) -> LiveSession:
        """The session, with the settings as they are now."""
        assert self._caller is not None
        settings = self._settings
        occasion = Occasion(self._caller.key, settings.device, settings.latitude, settings.longitude)
        if self._session is None:
            self._session = LiveSession(self._request.app[LIVE], self._caller.tenant, occasion, settings.limit)
        self._session.occasion, self._session.limit = occasion, settings.limit
        self._session.liveness = bool(settings.liveness)
        self._session.visits.patience = LEAVE_AFTER if settings.leave_after is None else settings.leave_after
        return self._session

    async def _watch(self) -> None:
        """End a session that is idle, or whose key was revoked, rotated or has expired."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if time.monotonic() - self._last_frame > IDLE_SECONDS:
                raise _Closed(CLOSE_IDLE, "There was no frame for too long.")
            caller = self._caller
            if caller is None or caller.key is None:
                await authenticate(self._request, None)
                continue
            stored = await self._find_key(caller.key)
            if stored != self._stored or _has_expired(stored):
                raise Unauthorized("The API key is not valid any more.")

    async def _find_key(self, id: str) -> StoredKey | None:
        return await asyncio.to_thread(self._request.app[DIRECTORY].find_key, id)

    async def _send(self, message: BaseModel, left_out: Mapping[str, Any] = _UNMEASURED) -> None:
        """Send but for some members; a client that does not read is cut off."""
        text = exact_json.dumps(message.model_dump(mode="json", exclude={**left_out})).decode()
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._socket.send_str(text)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise _Closed(None) from None


def _text(message: WSMessage) -> str:
    text: str = message.data
    if len(text) > _MAX_TEXT:
        raise _Closed(WSCloseCode.MESSAGE_TOO_BIG, "A text message is too long.")
    return text


async def _parse(text: str, adapter: TypeAdapter[Any]) -> Any:
    return validate(adapter, await parse_json(text))


def _error(error: ServiceError, frame: int | None, skipped: int = 0) -> ErrorMessage:
    return ErrorMessage(error=ErrorDetail(code=error.code, message=error.message), frame=frame, skipped=skipped)


def _has_expired(stored: StoredKey | None) -> bool:
    return stored is not None and stored.key.expires_at is not None and stored.key.expires_at <= datetime.now(UTC)
