"""How much is taken on at once: requests, and bytes of their bodies; in all, by each peer, and from whom nobody knows.

A peer may hold as much as it leaves to others, and no more: alone it gets half of what there is, two get a third each
and leave a third. (Among the buffers of network switches this is a dynamic threshold: Choudhury and Hahne, "Dynamic
queue length thresholds for shared-memory packet switches", 1998.) So nobody takes everything, however few there are,
and there is always something left for who comes next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from aiohttp import web

from shared.errors import Overloaded

TOO_MANY = "Too many requests are being worked on."
TOO_MANY_OF_PEER = "Too many requests from this address are being worked on."

RESERVE = 1 << 16
"""Bytes of a body that count from the beginning, if it has as many: what may have come before it is read."""

_PART_OF_STRANGERS = 8


@dataclass
class _Held:
    requests: int = 0
    bytes: int = 0


class Account:
    """What peers hold of something that there is only so much of.

    Args:
        requests: that may be held at once.
        bytes: that they may have.
    """

    def __init__(self, requests: int, bytes: int = 0) -> None:
        self.most = _Held(requests, bytes)
        self.held = _Held()
        self._of: defaultdict[Hashable, _Held] = defaultdict(_Held)

    def enter(self, peer: Hashable) -> None:
        """Hold one request more.

        Raises:
            Overloaded: there is no room for it.
        """
        left, own = self.most.requests - self.held.requests, self._of[peer]
        if own.requests >= left:
            self._forget(peer)
            raise Overloaded(TOO_MANY_OF_PEER if left > 0 else TOO_MANY)
        self.held.requests += 1
        own.requests += 1

    def leave(self, peer: Hashable, bytes: int = 0) -> None:
        """Hold one request less, with so many bytes."""
        self.held.requests -= 1
        self._of[peer].requests -= 1
        self.add(peer, -bytes)
        self._forget(peer)

    def has_room(self, peer: Hashable, more: int) -> bool:
        """Whether a peer that has entered may hold so many bytes more."""
        return self._of[peer].bytes + more <= self.most.bytes - self.held.bytes - more

    def add(self, peer: Hashable, more: int) -> None:
        """Hold so many bytes more, or less."""
        self.held.bytes += more
        self._of[peer].bytes += more

    def _forget(self, peer: Hashable) -> None:
        if not self._of[peer].requests:
            del self._of[peer]


class Load:
    """What this process works on.

    Args:
        requests: that are worked on at once.
        bytes: of their bodies.

    Attributes:
        all: everything.
        strangers: the small part of it that requests may hold of which it is not known yet whom they are from.
        large: the one request, if there is one, that took more than its share when no other had any bytes.
    """

    def __init__(self, requests: int, bytes: int) -> None:
        self.all = Account(requests, bytes)
        self.strangers = Account(max(1, requests // _PART_OF_STRANGERS), bytes // _PART_OF_STRANGERS)
        self.large: Place | None = None

    @property
    def pending(self) -> int:
        """Requests that are worked on."""
        return self.all.held.requests

    @property
    def bytes(self) -> int:
        """That they hold, but for the large one."""
        return self.all.held.bytes

    @property
    def largest_of_strangers(self) -> int:
        """Most bytes of a body that is read before it is known whom it is from."""
        return self.strangers.most.bytes // 2


class Place:
    """A request's place among those that are worked on, with room for its body.

    Args:
        load: where it counts until ``leave``.
        peer: whom it is from.

    Raises:
        Overloaded: there is no room for it.
    """

    def __init__(self, load: Load, peer: str) -> None:
        self._load = load
        self._peer = peer
        self._size = 0
        self._accounts = [load.all]
        load.all.enter(peer)

    def be_stranger(self) -> None:
        """Count among those of which it is not known whom they are from.

        Raises:
            Overloaded: there are too many of these.
        """
        self._load.strangers.enter(self._peer)
        self._accounts.append(self._load.strangers)

    def be_known(self) -> None:
        """Count among them no longer."""
        if self._load.strangers in self._accounts:
            self._accounts.remove(self._load.strangers)
            self._load.strangers.leave(self._peer, self._size)

    def hold(self, size: int) -> None:
        """Have room for so many bytes.

        The only one that has any may have as many as it likes. It does not count then, so that others find room.

        Raises:
            Overloaded: the bodies of others leave no room.
        """
        if self._load.large is self:
            return
        more = size - self._size
        if more > 0 and not all(account.has_room(self._peer, more) for account in self._accounts):
            alone = self._load.bytes == self._size and self._load.large is None
            if not alone or self._load.strangers in self._accounts:
                raise Overloaded(TOO_MANY)
            self._load.large, more = self, -self._size
        self._size += more
        for account in self._accounts:
            account.add(self._peer, more)

    @property
    def size(self) -> int:
        """Bytes that it has room for."""
        return self._size

    def leave(self) -> None:
        """Count no longer."""
        for account in self._accounts:
            account.leave(self._peer, self._size)
        self._accounts, self._size = [], 0
        if self._load.large is self:
            self._load.large = None


LOAD: web.AppKey[Load] = web.AppKey("load", Load)
PLACE: web.RequestKey[Place] = web.RequestKey("place", Place)
