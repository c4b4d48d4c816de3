"""Which extraction worker to ask. Knows no HTTP: it is told how each call ended.

A worker is *usable* when it can be reached and serves the embedding space in use, *refused* while it serves another,
and *resting* from a failure until it answers again. One that was not asked yet counts as resting.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

FIRST_REST, LONGEST_REST = 1.0, 30.0
"""Seconds for which a worker rests after its first failure, and at most; each further failure doubles the rest."""

ASK_AGAIN = 5.0
"""Seconds until a worker that is refused is asked again what it serves."""


class State(StrEnum):
    """How a worker is, see the module."""

    USABLE = "usable"
    RESTING = "resting"
    REFUSED = "refused"


@dataclass(eq=False)
class Worker:
    """One address of the extraction tier.

    Attributes:
        url: base address, without a slash at the end.
        space: the embedding space that it serves as far as is known.
        calls: under way.
        rest: seconds of the rest that it takes, 0 when it takes none.
        ask_at: moment from which it may be asked whether it is usable by now.
    """

    url: str
    space: str | None = None
    calls: int = 0
    rest: float = 0.0
    ask_at: float = 0.0
    _asking: bool = False
    _turn: int = 0
    _warned: tuple[str, str] | None = None

    @property
    def address(self) -> str:
        """For people: without user name and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Workers:
    """The extraction workers of one front process. Lives in one event loop.

    Args:
        urls: their base addresses, at least one.
        observe: told the number of workers in each state when one changes.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        urls: Sequence[str],
        observe: Callable[[Mapping[str, int]], None] = lambda states: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.all = tuple(Worker(url.rstrip("/")) for url in urls)
        self._observe = observe
        self._clock = clock
        self._turns = 0
        self._space: str | None = None

    @property
    def space(self) -> str | None:
        """The embedding space in use, None before the first worker has answered."""
        return self._space

    @property
    def lost(self) -> bool:
        """Whether no worker is known to be usable."""
        return not any(self.state(worker) is State.USABLE for worker in self.all)

    def state(self, worker: Worker) -> State:
        """How a worker is."""
        if worker.rest or worker.space is None or self._space is None:
            return State.RESTING
        return State.USABLE if worker.space == self._space else State.REFUSED

    def choose(self, space: str, tried: Collection[Worker]) -> Worker | None:
        """The worker to be tried next by a call that needs an embedding space; None when there is none left.

        Those that serve it come before those of which that is not known, and those that rest last. Among equals the one
        with the fewest calls under way is taken, and in turn.
        """
        able = [worker for worker in self.all if worker.space in (space, None) and worker not in tried]
        if not able:
            return None
        chosen = min(able, key=lambda one: (one.rest > 0, one.space is None, one.calls, one._turn))
        self._turns += 1
        chosen._turn = self._turns
        return chosen

    @contextmanager
    def under_way(self, worker: Worker) -> Iterator[None]:
        """Counts a call to a worker."""
        worker.calls += 1
        try:
            yield
        finally:
            worker.calls -= 1

    def due(self) -> list[Worker]:
        """The workers that should be asked what they serve, since they may be usable by now.

        Each is named once until ``answered``, ``unready`` or ``failed`` was called for it.
        """
        now = self._clock()
        due = [
            worker
            for worker in self.all
            if self.state(worker) is not State.USABLE and now >= worker.ask_at and not worker._asking
        ]
        for worker in due:
            worker._asking = True
        return due

    def answered(self, worker: Worker, space: str | None = None) -> None:
        """A worker has answered a call; ``space`` is what it serves if the answer says so."""
        changed = worker.rest > 0 or space not in (None, worker.space)
        if worker.rest and len(self.all) > 1:
            log.info("extraction worker answers again", extra={"worker": worker.address})
        worker.rest, worker._asking = 0.0, False
        worker.ask_at = self._clock() + ASK_AGAIN
        worker.space = space or worker.space
        if changed:
            self._changed()

    def forget(self, worker: Worker) -> None:
        """A worker has answered as if it served something else than it has said: it must be asked."""
        worker.space, worker.rest, worker.ask_at = None, 0.0, 0.0
        self._changed()

    def unready(self, worker: Worker) -> None:
        """A worker has answered that it is starting or stopping. It rests, but never for long."""
        self._let_rest(worker, FIRST_REST, "it is not ready")

    def failed(self, worker: Worker, reason: str) -> None:
        """A worker could not be reached, or has given no usable answer; ``reason`` is for the log."""
        self._let_rest(worker, min(2 * worker.rest, LONGEST_REST) or FIRST_REST, reason)

    def _let_rest(self, worker: Worker, seconds: float, reason: str) -> None:
        now = self._clock()
        # Calls that were under way together fail together, which counts as one failure.
        if worker.rest and now < worker.ask_at and not worker._asking:
            return
        if not worker.rest and len(self.all) > 1:  # of an only one the failed requests tell
            log.warning("extraction worker rests: %s", reason, extra={"worker": worker.address})
        worker.rest, worker.ask_at, worker._asking = seconds, now + seconds, False
        self._changed()

    def use(self, space: str) -> None:
        """Take an embedding space into use."""
        former, self._space = self._space, space
        if former not in (None, space):
            log.warning("the embedding space in use has changed", extra={"former": former, "space": space})
        self._changed()

    def _changed(self) -> None:
        for worker in self.all:
            if worker.space is None or self._space is None:
                continue
            if worker.space == self._space:
                worker._warned = None
            elif worker._warned != (worker.space, self._space) and len(self.all) > 1:
                worker._warned = (worker.space, self._space)
                log.warning(
                    "extraction worker is refused: it serves another embedding space",
                    extra={"worker": worker.address, "served": worker.space, "in_use": self._space},
                )
        counts = Counter(self.state(worker) for worker in self.all)
        self._observe({state.value: counts[state] for state in State})
