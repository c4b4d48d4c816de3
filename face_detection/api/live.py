"""Live recognition over a WebSocket: frames in, names out. docs/api/live.md describes the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from face_detection.access import Caller, demand
from face_detection.api.bodies import SETTINGS
from face_detection.api.gate import GATE
from face_detection.api.guard import key_text
from face_detection.api.live_conversation import Conversation, authenticate
from face_detection.api.live_messages import LIVE_ANSWER
from face_detection.api.operations import Operation
from face_detection.gallery.directory import Right
from shared.errors import Forbidden, InvalidRequest, Overloaded, Unauthorized

TAG = "Live"

PROTOCOL = "faces.v1"
"""Subprotocol. A client that cannot set headers may offer its API key as a second one."""

HEARTBEAT = 20.0
"""Seconds without a message after which the server pings; the client has half of that to answer."""


class Sessions:
    """The open sessions of this process."""

    def __init__(self) -> None:
        self._open: set[web.WebSocketResponse] = set()

    @contextmanager
    def room_for(self, socket: web.WebSocketResponse, most: int) -> Iterator[None]:
        """Count a session while it lasts.

        Raises:
            Overloaded: there are ``most`` already.
        """
        if len(self._open) >= most:
            raise Overloaded("There are too many live sessions.")
        self._open.add(socket)
        try:
            yield
        finally:
            self._open.discard(socket)

    async def close(self) -> None:
        """Tell all clients that the server goes away."""
        going = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"shutting_down") for socket in self._open]
        await asyncio.gather(*going, return_exceptions=True)


SESSIONS: web.AppKey[Sessions] = web.AppKey("live_sessions", Sessions)


async def close_sessions(app: web.Application) -> None:
    """For ``on_shutdown``: aiohttp would wait for the clients otherwise."""
    await app[SESSIONS].close()


async def live(request: web.Request) -> web.StreamResponse:
    """A session, from the handshake to its end."""
    settings = request.app[SETTINGS]
    socket = web.WebSocketResponse(
        protocols=(PROTOCOL,),
        heartbeat=HEARTBEAT,
        compress=False,  # JPEGs do not shrink, and what unpacks to much more would be a danger
        max_msg_size=settings.live_frame_bytes + 4,
    )
    _refuse_other_sites(request)
    if request.query:
        raise InvalidRequest("A live session takes no query: settings and API key come in messages.")
    upgrades = socket.can_prepare(request).ok
    caller = await _caller_of_handshake(request, must_be_known=not upgrades)
    if not upgrades:
        raise InvalidRequest("This address speaks WebSocket only.")
    with request.app[SESSIONS].room_for(socket, settings.live_sessions), _not_pending(request):
        await socket.prepare(request)
        await Conversation(request, socket, caller).run()
    return socket


def _refuse_other_sites(request: web.Request) -> None:
    """Refuse a browser that a page of another site sent: WebSockets know no same-origin policy."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    own = site in ("same-origin", "none") or origin is None or urlsplit(origin).netloc == request.host
    if site in ("cross-site", "same-site") or not own:
        raise Forbidden("Live sessions of other sites are refused.")


async def _caller_of_handshake(request: web.Request, must_be_known: bool) -> Caller | None:
    """Whom the handshake is from by a header or an offered subprotocol; None when a message is to tell.

    Raises:
        Unauthorized, Forbidden, RateLimited, StorageError: see ``Access.authenticate`` and ``demand``.
    """
    offered = {part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    keys = {part for part in offered if part.startswith("fr_")} | {key_text(request)} - {None}
    if len(keys) > 1:
        raise Unauthorized("The request has several different API keys.")
    try:
        caller = await authenticate(request, next(iter(keys), None))
    except Unauthorized:
        if keys or must_be_known:
            raise
        return None
    demand(caller, Right.RECOGNISE)
    return caller


@contextmanager
def _not_pending(request: web.Request) -> Iterator[None]:
    """A session has a limit of its own, and must not count for hours among the requests that are worked on."""
    gate = request.app[GATE]
    gate.pending -= 1
    try:
        yield
    finally:
        gate.pending += 1


OPERATIONS = (
    Operation(
        "GET",
        "/live",
        "Live recognition over a WebSocket, see docs/api/live.md: answers to frames (right `recognise`)",
        live,
        TAG,
        # A browser's key comes with the first message: the session asks for the right.
        right=None,
        answer=LIVE_ANSWER,
        errors=(400, 401, 403),
    ),
)
