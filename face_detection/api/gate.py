"""How much is taken on at once: requests, and bytes of their bodies."""

from __future__ import annotations

from aiohttp import web

from shared.errors import Overloaded

TOO_MANY = "Too many requests are being worked on."


class Gate:
    """Counts the requests that are being worked on, and the bytes of their bodies."""

    def __init__(self) -> None:
        self.pending = 0
        self.bytes = 0


class Place:
    """A request's place among those that are worked on, with room for its body.

    Args:
        gate: where it counts by now.
        most_bytes: of all bodies.

    Attributes:
        size: bytes that it has room for.
    """

    def __init__(self, gate: Gate, most_bytes: int) -> None:
        self.size = 0
        self._gate = gate
        self._most_bytes = most_bytes

    def hold(self, size: int) -> None:
        """Have room for at least so many bytes. A single request may have as many as it likes.

        Raises:
            Overloaded: the bodies of others leave no room.
        """
        more = size - self.size
        if more <= 0:
            return
        if self._gate.pending > 1 and self._gate.bytes + more > self._most_bytes:
            raise Overloaded(TOO_MANY)
        self._gate.bytes += more
        self.size = size


GATE: web.AppKey[Gate] = web.AppKey("gate", Gate)
PLACE: web.RequestKey[Place] = web.RequestKey("place", Place)
