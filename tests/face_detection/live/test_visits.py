"""Who is there, from numbers of tracks and embeddings alone."""

from __future__ import annotations

import numpy as np

from face_detection.live import visits
from face_detection.live.visits import Views, Visits

ANN, BOB = [np.array([1.0, 0.0], np.float32)], [np.array([0.0, 1.0], np.float32)]


def resemble(some: Views, others: Views) -> bool:
    return any(float(one @ other) > 0.5 for one in some for other in others)


class Video:
    """Frames with faces that are sure, by the number of the track: a person's id, or a stranger's embeddings."""

    def __init__(self, patience: float = 10.0) -> None:
        self.visits = Visits(patience)

    def show(self, now: float, faces: dict[int, str | Views]) -> tuple[list[int | None], list[int]]:
        """Numbers of the visits of the faces, and tracks with which one began."""
        known = {track: face if isinstance(face, str) else None for track, face in faces.items()}
        self.visits.see(known, now)
        began = [
            track
            for track, face in faces.items()
            if self.visits.ascertain(track, known[track], ANN if isinstance(face, str) else face, now, resemble)
        ]
        return [self.visits.number(track, known[track]) for track in faces], began


def test_a_person_who_is_back_in_time_goes_on() -> None:
    video = Video()
    assert video.show(0, {1: "ann"}) == ([1], [1])
    assert video.show(10, {2: "ann", 3: "bob"}) == ([1, 2], [3])
    assert video.show(20, {4: "ann", 5: "ann"}) == ([1, 1], [])
    assert video.show(30.1, {6: "ann"}) == ([3], [6])


def test_a_stranger_is_known_by_the_face() -> None:
    video = Video()
    assert video.show(0, {1: ANN}) == ([1], [1])
    assert video.show(9, {2: BOB}) == ([2], [2])
    assert video.show(10, {3: ANN, 2: BOB}) == ([1, 2], [])
    assert video.show(20, {3: ANN}) == ([1], [])
    assert video.show(30.1, {4: ANN, 5: BOB}) == ([3, 4], [4, 5])


def test_nobody_is_in_two_places() -> None:
    video = Video()
    assert video.show(0, {1: ANN, 2: ANN}) == ([1, 2], [1, 2])
    assert video.show(1, {1: ANN, 3: ANN}) == ([1, 2], [])


def test_a_stranger_who_is_recognised_becomes_a_person() -> None:
    video = Video()
    assert video.show(0, {1: ANN}) == ([1], [1])
    assert video.show(1, {1: "ann"}) == ([2], [1])
    assert video.show(2, {1: ANN}) == ([1], [])


def test_before_it_is_sure() -> None:
    video = Video()
    video.visits.see({1: None, 2: "ann"}, 0)
    assert (video.visits.number(1, None), video.visits.number(2, "ann")) == (None, None)
    video.show(1, {2: "ann"})
    video.visits.see({3: "ann"}, 9)  # that it may be her is enough for her to stay
    assert video.show(18, {4: "ann"}) == ([1], [])


def test_after_a_change_of_model() -> None:
    video = Video()
    video.show(0, {1: ANN, 2: "bob"})
    video.visits.forget_strangers()
    assert video.show(1, {1: ANN, 2: "bob"}) == ([3, 2], [1])


def test_strangers_are_not_remembered_without_end() -> None:
    video = Video(1e6)
    most = visits._MOST_STRANGERS
    views = [[row] for row in np.eye(most + 1, dtype=np.float32)]
    for number, face in enumerate(views):
        assert video.show(number, {number: face}) == ([number + 1], [number])
    assert video.show(most + 1, {1000: views[1]}) == ([2], [])
    assert video.show(most + 2, {1001: views[0]}) == ([most + 2], [1001])
