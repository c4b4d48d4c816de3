"""Who comes and who leaves, from the answers of a live session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_KEPT = ("visit", "track", "id", "name", "metadata", "distance", "trust")


@dataclass
class _Visit:
    """Somebody who is there: the latest firm answer about the face, and the first and last sighting in seconds."""

    face: Mapping[str, Any]
    since: float
    until: float


class Visits:
    """Turns faces of frames into events: ``appeared`` once it is sure who it is, ``left`` after a while unseen.

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
        for key, _ in found:
            if key in self._present:
                self._present[key].until = now
        events = self._left(lambda visit: now - visit.until > self._patience, now)
        for key, face in found:
            if key not in self._present and face["visit"] is not None:
                self._present[key] = _Visit(face, now, now)
                events.append(event("appeared", now, face))
        return events

    def end(self, now: float) -> list[dict[str, Any]]:
        """Everybody leaves; returns the events."""
        return self._left(lambda visit: True, now)

    def _left(self, has_gone: Callable[[_Visit], bool], now: float) -> list[dict[str, Any]]:
        gone = {key: visit for key, visit in self._present.items() if has_gone(visit)}
        for key in gone:
            del self._present[key]
        return [
            event("left", now, visit.face) | {"since": round(visit.since, 3), "until": round(visit.until, 3)}
            for visit in gone.values()
        ]


def event(kind: str, now: float, face: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is told of something that happens at a time in seconds, perhaps to a face."""
    kept = (
        {name: face[name] for name in ("visit", "track", "id", "name", "metadata", "distance", "trust")} if face else {}
    )
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": kind, "at": at, "seconds": round(now, 3), **kept}
