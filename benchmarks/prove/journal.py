"""What clients know of the people that they wrote, and what is wrong with what a service says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class State:
    """A person, as GET /people lists them.

    Attributes:
        version: of the name; each write of name and metadata puts the same one into both.
        metadata: its version there.
        photos: how many.
    """

    version: int
    metadata: int
    photos: int


def state_of(entry: Mapping[str, Any]) -> State:
    """The state in an entry of GET /people."""
    version = int(str(entry["name"]).rpartition(" v")[2])
    return State(version, int((entry["metadata"] or {}).get("v", -1)), int(entry["photos"]))


class Journal:
    """States that people may have, by what was answered and what was not. Safe between threads.

    An id is never used again after a deletion.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._possible: dict[str, set[State | None]] = {}
        self._together: list[tuple[str, ...]] = []
        self._gone: dict[str, float] = {}
        self.writes = 0
        """Writes that were answered."""

    def begin(self, after: Mapping[str, State | None]) -> None:
        """A write is sent that changes these people to these states, all of them or none."""
        with self._lock:
            for id, state in after.items():
                self._possible.setdefault(id, {None}).add(state)
            self._together.append(tuple(after))

    def answered(self, after: Mapping[str, State | None]) -> None:
        """It was answered as done, or with the former states as not done."""
        with self._lock:
            self.writes += 1
            for id, state in after.items():
                self._possible[id] = {state}
                if state is None:
                    self._gone.setdefault(id, time.monotonic())
            self._together.remove(tuple(after))

    def known(self, prefix: str) -> dict[str, State]:
        """The people with ids that begin so, of whom it is certain what they are."""
        with self._lock:
            items = [(id, next(iter(states))) for id, states in self._possible.items() if len(states) == 1]
        return {id: state for id, state in items if state is not None and id.startswith(prefix)}

    def check(self, listed: Mapping[str, State]) -> list[str]:
        """What is wrong with a list of all people, made while nobody writes. From then on it is what is certain."""
        faults = [f"{id} is listed and was never sent" for id in listed.keys() - self._possible.keys()]
        for id, possible in self._possible.items():
            seen = listed.get(id)
            if seen not in possible:
                faults.append(_fault(id, seen, possible))
        for ids in self._together:
            if len({id in listed for id in ids}) > 1:
                faults.append(f"half-written: of {', '.join(ids)}, sent as one, only some are there")
        self._together.clear()
        self._possible = {id: {listed.get(id)} for id in self._possible}
        return faults

    def check_names(self, who: str, ids: Iterable[str], since: float) -> list[str]:
        """What is wrong with the ids that the photo of somebody was answered with.

        Args:
            who: whose photo; ids end with it.
            since: when it was sent (``time.monotonic``).
        """
        faults = []
        for id in ids:
            if not id.endswith(f"-{who}"):
                faults.append(f"wrong name: {who} was called {id}")
            elif self._gone.get(id, since) < since:
                faults.append(f"deleted and found: {id}")
        return faults


def _fault(id: str, seen: State | None, possible: set[State | None]) -> str:
    if seen is None:
        return f"lost: {id} was answered as stored and is not there"
    if seen.version != seen.metadata:
        return f"half-written: {id} has the name of version {seen.version} and the metadata of {seen.metadata}"
    if possible == {None}:
        return f"deleted and there: {id}"
    return f"lost: {id} is {seen} and may be {possible}"
