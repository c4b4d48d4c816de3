"""Who is there from when to when: sightings in single frames become stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from face_detection.cli.service.protocol import Seen


@dataclass
class Stay:
    """Somebody who is seen for a while.

    Attributes:
        id, name: None for unknown faces, however many there are.
        begin, end: first and last sighting, in seconds.
        frames: in how many frames.
        distance: the smallest; None in an empty gallery.
    """

    id: str | None
    name: str | None
    begin: float
    end: float
    frames: int
    distance: float | None


class Presence:
    """Who is there now.

    Args:
        patience: seconds without a sighting after which somebody has left.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._present: dict[str | None, Stay] = {}

    def see(self, seen: Iterable[Seen], now: float) -> tuple[list[Stay], list[Stay]]:
        """Take note of the faces of a frame.

        Args:
            seen: the faces.
            now: time of the frame, in seconds; not less than before.

        Returns:
            Who has come, and who has left.
        """
        left = [stay for stay in self._present.values() if now - stay.end > self._patience]
        for stay in left:
            del self._present[stay.id]
        nearest: dict[str | None, Seen] = {}
        for one in seen:
            known = nearest.get(one.id)
            if known is None or _less(one.distance, known.distance):
                nearest[one.id] = one
        come = []
        for one in nearest.values():
            present = self._present.get(one.id)
            if present is None:
                present = self._present[one.id] = Stay(one.id, one.name, now, now, 0, one.distance)
                come.append(present)
            present.end, present.frames = now, present.frames + 1
            if _less(one.distance, present.distance):
                present.distance = one.distance
        return come, left

    def leave(self) -> list[Stay]:
        """Everybody leaves; returns who was there."""
        left = list(self._present.values())
        self._present.clear()
        return left


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)
