"""Follows faces from frame to frame, decides when one is to be embedded, and lets several embeddings vote on a name.

Faces are matched greedily by the overlap (IoU) of their boxes and the likeness of their aligned pixels. The latter
tells a cut in the film from a movement, and finds a face again that has moved further than its own width between two
frames. Prediction from the former speed was no better on real clips. No HTTP, no pictures but small ones, and no clock
of its own: times are seconds that the caller counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.geometry import Box, Face
from shared.images import Pixels

LOST_SECONDS = 1.0
"""A face that was not seen for longer gets a new number."""

MOST_AT_ONCE = 8
"""Faces embedded for one frame, so that a crowd does not hold the video up; the others follow with the next frames."""

_LEAST_IOU = 0.3
_SAME_PLACE = 0.7
_UNLIKE = 0.3
_CHANGED = 0.5
_ALIKE = 0.6
_REACH = 2.0
_SIDE = 16

_INTERVAL = 0.2
_PATIENT_INTERVAL = 0.5
_REFRESH = 3.0
_REFRESH_UNKNOWN = 1.0
_TICK = 1e-6  # what sums of seconds are off by
_CLEARER = 1.5
_SCALED = 1.5

_DECAY = 0.8
_DOUBT = 0.25
_LEAST_VOTE = 0.02
_FIRM_VOTES = 2
_FIRM_SHARE = 0.6
_FIRM_DOUBT = 0.15
_MANY_VOTES = 10


@dataclass(frozen=True)
class Sighting:
    """A face in one frame.

    Attributes:
        face: where it is.
        sharpness: variance of the Laplacian of the aligned crop, times the side of the box in pixels.
        look: (256,) float32, the aligned crop as 16 x 16 gray values without mean and of unit length.
    """

    face: Face
    sharpness: float
    look: NDArray[np.float32]

    @classmethod
    def of(cls, face: Face, crop: Pixels) -> Sighting:
        """Measure a face.

        Args:
            face: where it is.
            crop: (height, width, 3) uint8 BGR, aligned.
        """
        gray = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        length = float(np.linalg.norm(small))
        sharpness = float(cv2.Laplacian(gray, cv2.CV_32F).var()) * face.box.area**0.5
        return cls(face, sharpness, np.divide(small, length, dtype=np.float32) if length else small)


@dataclass
class Ballot:
    """Who a face is, voted over frames. Older votes fade, so that a wrong early name is corrected.

    A name votes with 1 − distance / threshold. An unknown face votes for nobody with a quarter of distance / threshold
    − 1, at most a quarter: a known face that is blurred or turned aside is often not recognised, while a stranger
    hardly ever is.

    Attributes:
        votes: how many embeddings have voted.
        disputed: whether the latest was not for the leader.
    """

    votes: int = 0
    disputed: bool = False
    _weights: dict[str | None, float] = field(default_factory=dict)
    _counts: Counter[str | None] = field(default_factory=Counter)

    def vote(self, who: str | None, distance: float | None, threshold: float) -> None:
        """Count one embedding.

        Args:
            who: id of the person, None for nobody.
            distance: to the nearest sample; None when there is none.
            threshold: below which a distance counts as a match.
        """
        ratio = distance / threshold if distance is not None and threshold > 0 else 2.0
        weight = 1 - ratio if who is not None else _DOUBT * min(ratio - 1, 1)
        self.fade(_DECAY)
        self._weights[who] = self._weights.get(who, 0.0) + max(weight, _LEAST_VOTE)
        self._counts[who] += 1
        self.votes += 1
        self.disputed = who != self.leader

    def fade(self, factor: float) -> None:
        """Make what was voted so far count less."""
        self._weights = {who: weight * factor for who, weight in self._weights.items()}

    def forget(self, who: str) -> None:
        """Strike out somebody who does not exist any more."""
        self._weights.pop(who, None)
        self._counts.pop(who, None)

    @property
    def leader(self) -> str | None:
        """Who has most votes; None for nobody, also before the first vote."""
        return max(self._weights, key=lambda who: self._weights[who], default=None)

    @property
    def firm(self) -> bool:
        """Whether the answer is sure enough to be told.

        At least two embeddings must be for it, with most of the weight. That a face is nobody's takes more: distances
        well above the threshold, or many of them.
        """
        if self._counts[self.leader] < _FIRM_VOTES:
            return False
        weight = self._weights[self.leader]
        doubtful = self.leader is None and weight < _FIRM_DOUBT and self.votes < _MANY_VOTES
        return not doubtful and weight >= _FIRM_SHARE * sum(self._weights.values())


@dataclass
class Track:
    """One face over frames.

    Attributes:
        number: from 1 on, never given twice by one tracker.
        sighting: the latest.
        born: time of the first sighting.
        seen: time of the latest one.
        lost: frames since then.
        sharpest: best sharpness of the sightings that were embedded.
        ballot: who it is.
    """

    number: int
    sighting: Sighting
    born: float
    seen: float
    lost: int = 0
    sharpest: float = 0.0
    ballot: Ballot = field(default_factory=Ballot)
    _asked: float | None = None
    _asked_side: float = 0.0
    _changed: bool = True

    @property
    def box(self) -> Box:
        """Where it was last seen."""
        return self.sighting.face.box

    def see(self, sighting: Sighting, now: float) -> None:
        """It is in this frame too."""
        moved = self.box.iou(sighting.face.box) < _LEAST_IOU
        if not self._changed and (moved or _likeness(self.sighting, sighting) < _CHANGED):
            self._changed = True
            self.ballot.fade(0.5)
        self.sighting, self.seen, self.lost = sighting, now, 0

    def due(self, now: float) -> bool:
        """Whether it should be embedded in the frame in which it was just seen."""
        if self._asked is None:
            return True
        waited = now - self._asked + _TICK
        if waited < (_INTERVAL if self.ballot.votes < _MANY_VOTES else _PATIENT_INTERVAL):
            return False
        scale = self.box.area**0.5 / self._asked_side if self._asked_side else 1.0
        return (
            self._changed
            or not self.ballot.firm
            or self.ballot.disputed
            or waited >= (_REFRESH_UNKNOWN if self.ballot.leader is None else _REFRESH)
            or self.sighting.sharpness > _CLEARER * self.sharpest
            or not 1 / _SCALED < scale < _SCALED
        )

    def ask(self, now: float) -> None:
        """It is being embedded."""
        self._asked, self._asked_side, self._changed = now, self.box.area**0.5, False
        self.sharpest = max(self.sharpest, self.sighting.sharpness)

    @property
    def asked(self) -> float:
        """When it was last embedded; before any time if it never was."""
        return -np.inf if self._asked is None else self._asked


class Tracker:
    """The faces of one video. Not safe between threads."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._numbers = 0

    def update(self, sightings: Sequence[Sighting], now: float) -> list[Track]:
        """Match the faces of the next frame; returns the track of each, in order.

        Args:
            sightings: the faces.
            now: seconds; not less than before.
        """
        self.tracks = [track for track in self.tracks if now - track.seen <= LOST_SECONDS]
        pairs = sorted(
            (
                (score, row, track.number, track)
                for track in self.tracks
                for row, sighting in enumerate(sightings)
                if (score := _score(track, sighting)) > 0
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for _, row, number, track in pairs:
            if row not in matched and number not in taken:
                matched[row] = track
                taken.add(number)
        for track in self.tracks:
            track.lost += track.number not in taken
        for row, sighting in enumerate(sightings):
            if row in matched:
                matched[row].see(sighting, now)
            else:
                self._numbers += 1
                matched[row] = Track(self._numbers, sighting, now, now)
                self.tracks.append(matched[row])
        return [matched[row] for row in range(len(sightings))]

    def renew(self, track: Track) -> None:
        """A track turned out to be somebody else's from now on: give it another number and an empty ballot."""
        self._numbers += 1
        track.number, track.born, track.ballot = self._numbers, track.seen, Ballot()

    def choose(self, seen: Sequence[Track], now: float) -> list[Track]:
        """Which of the tracks just seen are embedded in this frame: those that waited longest, new ones first."""
        due = sorted((track for track in seen if track.due(now)), key=lambda track: (track.asked, track.number))
        for track in due[:MOST_AT_ONCE]:
            track.ask(now)
        return due[:MOST_AT_ONCE]


def _score(track: Track, sighting: Sighting) -> float:
    """How well a face continues a track; 0 when it does not."""
    old, new = track.box, sighting.face.box
    iou = old.iou(new)
    likeness = _likeness(track.sighting, sighting)
    if iou >= _SAME_PLACE or (iou >= _LEAST_IOU and likeness >= _UNLIKE):
        return 2 + iou + likeness
    side = old.area**0.5
    apart = math.hypot(new.x + new.width / 2 - old.x - old.width / 2, new.y + new.height / 2 - old.y - old.height / 2)
    near = apart <= _REACH * side and 1 / _SCALED < new.area**0.5 / side < _SCALED
    return 1 + likeness - apart / side / _REACH if near and likeness >= _ALIKE else 0.0


def _likeness(one: Sighting, other: Sighting) -> float:
    """Correlation of the pixels, −1 to 1."""
    return float(one.look @ other.look)
