"""Who is there from when to when: whoever is unseen for a while has left.

What is known of a face decides who is the same: a recognition in a single frame has but the person, the answers of a
live session tell strangers apart, too, and whether it is sure who somebody is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from face_detection.cli.service.protocol import Seen

_KEPT = ("visit", "track", "id", "name", "metadata", "distance", "trust")


@dataclass
class Stay:
    """Somebody who is seen for a while.

    Attributes:
        id, name: None for unknown faces, however many there are.
        begin, end: first and last sighting, in seconds.
        distance: the smallest; None in an empty gallery.
        frames: in how many frames.
    """

    id: str | None
    name: str | None
    begin: float
    end: float
    distance: float | None
    frames: int = 0


class Presence:
    """Sightings in single frames become stays.

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
                present = self._present[one.id] = Stay(one.id, one.name, now, now, one.distance)
                come.append(present)
            present.end, present.frames = now, present.frames + 1
            if _less(one.distance, present.distance):
                present.distance = one.distance
        return come, left

    def leave(self) -> list[Stay]:
        """Everybody leaves; returns who was there."""
        left = list(self._present.values())
        self._present = {}
        return left


@dataclass
class _Visit:
    """First and last sighting, in seconds, and the first firm answer about the face."""

    face: Mapping[str, Any]
    begin: float
    end: float


class Visits:
    """Answers of a live session become events: ``appeared`` once it is sure who it is, ``left`` after a while unseen.

    A person is there once, however many faces have the name; strangers are told apart by the service's visits.

    Args:
        patience: seconds without a sighting after which somebody has left.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._present: dict[tuple[int, int] | str, _Visit] = {}

    def see(self, faces: Sequence[Mapping[str, Any]], now: float, session: int = 0) -> list[dict[str, Any]]:
        """Take note of a frame, or that time has passed without one; returns the events.

        Args:
            faces: as docs/api/live.md describes them.
            now: the time in seconds; not less than before.
            session: in which of several sessions; each counts visits anew.
        """
        found = [((session, face["visit"]) if face["id"] is None else face["id"], face) for face in faces]
        for key, _ in found:  # first, since an answer may be slow: whoever is in it has been there meanwhile
            if key in self._present:
                self._present[key].end = now
        events = self._leave(now, self._patience)
        for key, face in found:
            if key not in self._present and face["visit"] is not None:
                self._present[key] = _Visit(face, now, now)
                events.append(event("appeared", now, face))
        return events

    def end(self, now: float) -> list[dict[str, Any]]:
        """Everybody leaves; returns the events."""
        return self._leave(now, -math.inf)

    def _leave(self, now: float, patience: float) -> list[dict[str, Any]]:
        left = [key for key, visit in self._present.items() if now - visit.end > patience]
        visits = [self._present.pop(key) for key in left]
        return [
            event("left", now, visit.face) | {"since": round(visit.begin, 3), "until": round(visit.end, 3)}
            for visit in visits
        ]


def event(kind: str, now: float, face: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is told of something that happens at a time in seconds, perhaps to a face."""
    kept = {name: face[name] for name in _KEPT} if face else {}
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": kind, "at": at, "seconds": round(now, 3), **kept}


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)
