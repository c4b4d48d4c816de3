"""Who is there from when to when: whoever is unseen for a while has left.

What is known of a face decides who is the same: a recognition in a single frame has but the person, the answers of a
live session tell strangers apart, too, and whether it is sure who somebody is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from face_detection.cli.service.protocol import Seen

_KEPT = ("visit", "track", "id", "name", "metadata", "distance", "trust")


@dataclass(kw_only=True)
class _Span:
    """First and last sighting, in seconds."""

    begin: float
    end: float


@dataclass(kw_only=True)
class Stay(_Span):
    """Somebody who is seen for a while.

    Attributes:
        id, name: None for unknown faces, however many there are.
        begin, end: first and last sighting, in seconds.
        frames: in how many frames.
        distance: the smallest; None in an empty gallery.
    """

    id: str | None
    name: str | None
    distance: float | None
    frames: int = 0


@dataclass(kw_only=True)
class _Visit(_Span):
    """A stay, and the first firm answer about the face."""

    face: Mapping[str, Any]


K = TypeVar("K")
S = TypeVar("S", bound=_Span)


class _Present(Generic[K, S]):
    """Those who are there now, by what tells them apart.

    Args:
        patience: seconds without a sighting after which somebody has left.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._present: dict[K, S] = {}

    def _leave(self, now: float | None) -> list[S]:
        """Take those away who are unseen for too long at a time in seconds, or everybody."""
        left = [key for key, span in self._present.items() if now is None or now - span.end > self._patience]
        return [self._present.pop(key) for key in left]


class Presence(_Present[str | None, Stay]):
    """Sightings in single frames become stays."""

    def see(self, seen: Iterable[Seen], now: float) -> tuple[list[Stay], list[Stay]]:
        """Take note of the faces of a frame.

        Args:
            seen: the faces.
            now: time of the frame, in seconds; not less than before.

        Returns:
            Who has come, and who has left.
        """
        left = self._leave(now)
        nearest: dict[str | None, Seen] = {}
        for one in seen:
            known = nearest.get(one.id)
            if known is None or _less(one.distance, known.distance):
                nearest[one.id] = one
        come = []
        for one in nearest.values():
            present = self._present.get(one.id)
            if present is None:
                present = Stay(id=one.id, name=one.name, begin=now, end=now, distance=one.distance)
                self._present[one.id] = present
                come.append(present)
            present.end, present.frames = now, present.frames + 1
            if _less(one.distance, present.distance):
                present.distance = one.distance
        return come, left

    def leave(self) -> list[Stay]:
        """Everybody leaves; returns who was there."""
        return self._leave(None)


class Visits(_Present[tuple[int, int] | str, _Visit]):
    """Answers of a live session become events: ``appeared`` once it is sure who it is, ``left`` after a while unseen.

    A person is there once, however many faces have the name; strangers are told apart by the service's visits.
    """

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
        events = self._left(self._leave(now), now)
        for key, face in found:
            if key not in self._present and face["visit"] is not None:
                self._present[key] = _Visit(face=face, begin=now, end=now)
                events.append(event("appeared", now, face))
        return events

    def end(self, now: float) -> list[dict[str, Any]]:
        """Everybody leaves; returns the events."""
        return self._left(self._leave(None), now)

    @staticmethod
    def _left(visits: Iterable[_Visit], now: float) -> list[dict[str, Any]]:
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
