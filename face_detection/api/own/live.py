"""Live recognition over a WebSocket: frames in, names out. docs/api/live.md describes the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from aiohttp import WSCloseCode, web

from face_detection.access import Caller, demand
from face_detection.api.http.authentication import key_text
from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.load import PLACE, Account
from face_detection.api.http.origins import sent
from face_detection.api.operation import Operation
from face_detection.api.own.live_conversation import LIVE_ANSWER, Conversation, authenticate
from face_detection.gallery.directory import Right
from shared.errors import InvalidRequest, Overloaded, Unauthorized

TAG = "Live"

PROTOCOL = "faces.v1"
"""Subprotocol. A client that cannot set headers may offer its API key as a second one."""

HEARTBEAT = 20.0
"""Seconds without a message after which the server pings; the client has half of that to answer."""

_PART_OF_STRANGERS = 4


class Sessions:
    """The open sessions of this process.

    Callers without a key share them by their addresses, see ``Account``, and have a small part of them until it is
    known who they are. Callers with a key may have all.

    Args:
        most: that may be open at once.
    """

    def __init__(self, most: int) -> None:
        self._open: set[web.WebSocketResponse] = set()
        self._all = Account(most)
        self._strangers = Account(max(1, most // _PART_OF_STRANGERS))

    @contextmanager
    def room_for(
        self, socket: web.WebSocketResponse, peer: str, caller: Caller | None
    ) -> Iterator[Callable[[Caller], None]]:
        """Count a session while it lasts; what is yielded is to be told whom it is from, when that is found out.

        Raises:
            Overloaded: there are too many already.
        """
        seats: dict[Account, Hashable] = {}

        def sit(account: Account, who: Hashable) -> None:
            account.enter(who)
            seats[account] = who

        def rise(account: Account) -> None:
            if account in seats:
                account.leave(seats.pop(account))

        def known(caller: Caller) -> None:
            rise(self._strangers)
            if caller.key:
                rise(self._all)
                sit(self._all, socket)

        try:
            try:
                sit(self._all, socket if caller and caller.key else peer)
                if caller is None:
                    sit(self._strangers, peer)
            except Overloaded:
                raise Overloaded("There are too many live sessions.") from None
            self._open.add(socket)
            yield known
        finally:
            self._open.discard(socket)
            rise(self._strangers)
            rise(self._all)

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
    if request.query:
        raise InvalidRequest("A live session takes no query: settings and API key come in messages.")
    upgrades = socket.can_prepare(request).ok
    caller = await _caller_of_handshake(request, must_be_known=not upgrades)
    if not upgrades:
        raise InvalidRequest("This address speaks WebSocket only.")
    with request.app[SESSIONS].room_for(socket, sent(request).peer, caller) as known:
        request[PLACE].leave()  # it must not count for hours among the requests that are worked on
        await socket.prepare(request)
        await Conversation(request, socket, caller, known).run()
    return socket


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
        changes=True,  # what it recognises becomes events
    ),
)
