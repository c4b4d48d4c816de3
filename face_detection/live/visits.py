"""Visits: whoever steps out of view for a while and comes back is still there, known or not. No HTTP, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEAVE_AFTER = 30.0
"""Seconds unseen after which somebody has left, unless the client says otherwise."""

_MOST_STRANGERS = 200
_KEPT_VIEWS = 10

Views = Sequence[NDArray[np.float32]]


@dataclass
class _Visit:
    """Somebody who is there: the last sighting in seconds, and of a stranger the latest embeddings."""

    number: int
    until: float
    views: deque[NDArray[np.float32]] = field(default_factory=lambda: deque(maxlen=_KEPT_VIEWS))


class Visits:
    """The visits to one video. A person makes one however many faces have the name; a stranger is known by the face.

    Attributes:
        patience: seconds unseen after which a visit is over.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._persons: dict[str, _Visit] = {}
        self._strangers: list[_Visit] = []
        self._tracks: dict[int, _Visit] = {}
        """Of strangers."""
        self._numbers = 0

    def see(self, faces: Mapping[int, str | None], now: float) -> None:
        """Take note of a frame: visits of those who are seen go on, others may be over.

        Args:
            faces: number of each track that is seen, and who it is as far as is known.
            now: time in seconds; not less than before.
        """
        self._keep(lambda visit: now - visit.until <= self.patience)
        for track, who in faces.items():
            if (visit := self._of(track, who)) is not None:
                visit.until = now

    def number(self, track: int, who: str | None) -> int | None:
        """Number of the visit to which a face belongs, from 1 on; None before there is one."""
        visit = self._of(track, who)
        return None if visit is None else visit.number

    def ascertain(
        self, track: int, who: str | None, views: Views, now: float, resemble: Callable[[Views, Views], bool]
    ) -> bool:
        """It is sure who a face is; returns whether with it a visit begins.

        Args:
            track: its number.
            who: the person; None for a stranger.
            views: its latest embeddings, (dimensions,) float32 each, the newest last; at least one.
            now: time of the frame, which ``see`` was told of.
            resemble: whether embeddings are of one face.
        """
        visit = self._of(track, who)
        if visit is None and who is None:
            # Whoever is seen elsewhere in the same frame is somebody else.
            away = (one for one in reversed(self._strangers) if one.until < now)
            visit = next((one for one in away if resemble(views, one.views)), None)
        is_new = visit is None
        if visit is None:
            self._numbers += 1
            visit = _Visit(self._numbers, now)
        visit.until = now
        if who is not None:
            self._persons[who] = visit
            return is_new
        if is_new:
            self._strangers.append(visit)
        visit.views.extend(views[-1:] if track in self._tracks else views)
        self._tracks[track] = visit
        if len(self._strangers) > _MOST_STRANGERS:
            oldest = min(self._strangers, key=lambda one: one.until)
            self._keep(lambda visit: visit is not oldest)
        return is_new

    def forget_strangers(self) -> None:
        """Whoever is unknown begins anew: embeddings to come cannot be compared with those that were."""
        self._strangers, self._tracks = [], {}

    def _of(self, track: int, who: str | None) -> _Visit | None:
        return self._tracks.get(track) if who is None else self._persons.get(who)

    def _keep(self, stays: Callable[[_Visit], bool]) -> None:
        self._persons = {who: visit for who, visit in self._persons.items() if stays(visit)}
        self._strangers = [visit for visit in self._strangers if stays(visit)]
        self._tracks = {track: visit for track, visit in self._tracks.items() if stays(visit)}
