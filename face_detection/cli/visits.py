"""Who comes and who leaves, from the answers of a live session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass
class _Visit:
    """Somebody who is there: the latest firm answer about the face, and the first and last sighting in seconds."""

    face: Mapping[str, Any]
    since: float
    until: float


class Visits:
    """Turns faces of frames into events: ``appeared`` once it is sure who it is, ``left`` after a while unseen.

    A person is there once, however many faces have the name; every unknown face is somebody.

    Args:
        patience: seconds without a sighting after which somebody has left.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._present: dict[tuple[str, Any], _Visit] = {}

    def see(self, faces: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
        """Take note of a frame; returns the events.

        Args:
            faces: as docs/api/live.md describes them.
            now: time of the frame in seconds; not less than before.
        """
        events = self._left(lambda visit: now - visit.until > self._patience, now)
        for face in faces:
            key = ("track", face["track"]) if face["id"] is None else ("person", face["id"])
            visit = self._present.get(key)
            if visit is not None:
                visit.until = now
            elif face["firm"]:
                self._present[key] = _Visit(face, now, now)
                events.append(_event("appeared", face, now))
        return events

    def end(self, now: float) -> list[dict[str, Any]]:
        """Everybody leaves; returns the events."""
        return self._left(lambda visit: True, now)

    def _left(self, has_gone: Callable[[_Visit], bool], now: float) -> list[dict[str, Any]]:
        gone = {key: visit for key, visit in self._present.items() if has_gone(visit)}
        for key in gone:
            del self._present[key]
        return [
            _event("left", visit.face, now) | {"since": round(visit.since, 3), "until": round(visit.until, 3)}
            for visit in gone.values()
        ]


def _event(kind: str, face: Mapping[str, Any], now: float) -> dict[str, Any]:
    kept = {name: face[name] for name in ("track", "id", "name", "metadata", "distance", "trust")}
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": kind, "at": at, "seconds": round(now, 3), **kept}
