from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_detection.live.tracking import LOST_SECONDS, MOST_AT_ONCE, Ballot, Sighting, Track, Tracker
from shared.geometry import Box, Face, Landmarks
from shared.images import Pixels

LANDMARKS = Landmarks((0, 0), (0, 0), (0, 0), (0, 0), (0, 0))
THRESHOLD = 9.0


def look(person: int) -> np.ndarray:
    values = np.random.default_rng(person).standard_normal(256).astype(np.float32)
    values -= values.mean()
    return np.asarray(values / np.linalg.norm(values), np.float32)


def sighting(x: float, y: float = 100, side: int = 80, person: int = 1, sharpness: float = 100) -> Sighting:
    return Sighting(Face(Box(round(x), round(y), side, side), LANDMARKS, 0.9), sharpness, look(person))


def follow(frames: Sequence[Sequence[Sighting]], fps: float = 30) -> list[list[int]]:
    tracker = Tracker()
    return [[track.number for track in tracker.update(one, n / fps)] for n, one in enumerate(frames)]


def votes(*distances: tuple[str | None, float | None]) -> Ballot:
    ballot = Ballot()
    for who, distance in distances:
        ballot.vote(who, distance, THRESHOLD)
    return ballot


class TestMeasuring:
    @pytest.fixture
    def crop(self, photos) -> Pixels:  # type: ignore[no-untyped-def]
        photo = cv2.imread(str(photos / "obama.jpg"))[84:418, 378:605]
        return np.asarray(cv2.resize(photo, (160, 160), interpolation=cv2.INTER_AREA), np.uint8)

    def test_a_blurred_face_is_less_sharp_and_still_alike(self, crop: Pixels) -> None:
        face = sighting(0).face
        sharp = Sighting.of(face, crop)
        blurred = Sighting.of(face, np.asarray(cv2.GaussianBlur(crop, (0, 0), 3), np.uint8))
        assert blurred.sharpness < sharp.sharpness / 3
        assert float(sharp.look @ blurred.look) > 0.98
        assert sharp.look.shape == (256,) and abs(float(np.linalg.norm(sharp.look)) - 1) < 1e-5

    def test_a_larger_face_counts_more(self, crop: Pixels) -> None:
        small, large = (Sighting.of(sighting(0, side=side).face, crop).sharpness for side in (40, 80))
        assert large == pytest.approx(2 * small)

    def test_a_crop_of_one_colour(self) -> None:
        flat = Sighting.of(sighting(0).face, np.full((160, 160, 3), 7, np.uint8))
        assert flat.sharpness == 0 and not flat.look.any()


class TestFollowing:
    def test_two_people_who_pass_one_another(self) -> None:
        frames = [[sighting(100 + 6 * n, person=1), sighting(400 - 6 * n, 130, person=2)] for n in range(40)]
        assert follow(frames) == [[1, 2]] * 40

    def test_the_order_of_the_faces_does_not_matter(self) -> None:
        there, back = [sighting(0, person=1), sighting(300, person=2)], [sighting(302, person=2), sighting(2, person=1)]
        assert follow([there, back]) == [[1, 2], [2, 1]]

    def test_a_face_that_moves_further_than_its_width(self) -> None:
        assert follow([[sighting(130 * n)] for n in range(5)], fps=5) == [[1]] * 5

    def test_another_face_in_the_same_place_after_a_cut(self) -> None:
        assert follow([[sighting(100, person=1)], [sighting(130, person=2)]]) == [[1], [2]]

    def test_a_face_that_is_hidden_for_a_moment(self) -> None:
        short, long = round(LOST_SECONDS * 30) - 2, round(LOST_SECONDS * 30) + 2
        assert follow([[sighting(100)], *[[]] * short, [sighting(110)]])[-1] == [1]
        assert follow([[sighting(100)], *[[]] * long, [sighting(110)]])[-1] == [2]

    def test_what_a_track_knows(self) -> None:
        tracker = Tracker()
        tracker.update([sighting(100)], 1.0)
        tracker.update([], 1.1)
        tracker.update([], 1.2)
        (track,) = tracker.tracks
        assert (track.number, track.born, track.seen, track.lost, track.box.x) == (1, 1.0, 1.0, 2, 100)
        tracker.update([sighting(104)], 1.3)
        assert (track.seen, track.lost, track.box.x) == (1.3, 0, 104)

    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 600), st.integers(0, 300), st.integers(1, 5)), max_size=6), max_size=12
        ),
        st.floats(0.01, 2),
    )
    def test_whatever_comes(self, frames: list[list[tuple[int, int, int]]], step: float) -> None:
        """Each face has one number, nobody else's in its frame; numbers are never given again once they were lost."""
        tracker, gone = Tracker(), set[int]()
        for n, frame in enumerate(frames):
            before = {track.number for track in tracker.tracks}
            seen = tracker.update([sighting(x, y, person=person) for x, y, person in frame], n * step)
            numbers = [track.number for track in seen]
            assert len(numbers) == len(set(numbers)) == len(frame)
            assert [(track.box.x, track.box.y) for track in seen] == [(x, y) for x, y, _ in frame]
            assert not gone & set(numbers)
            gone |= before - {track.number for track in tracker.tracks}
            assert len(tracker.choose(seen, n * step)) <= MOST_AT_ONCE

    @given(st.floats(-8, 8), st.floats(-8, 8), st.integers(40, 120), st.integers(2, 40))
    def test_smooth_movement_keeps_the_number(self, dx: float, dy: float, side: int, count: int) -> None:
        frames = [[sighting(300 + dx * n, 200 + dy * n, side)] for n in range(count)]
        assert follow(frames) == [[1]] * count


class TestChoosing:
    @staticmethod
    def embedded(
        frames: Sequence[Sighting], answers: Sequence[tuple[str | None, float | None]], fps: float = 30
    ) -> list[int]:
        """In which frames the face is embedded when the embeddings find these; the last answer repeats."""
        tracker, chosen, left = Tracker(), [], list(answers)
        for n, one in enumerate(frames):
            seen = tracker.update([one], n / fps)
            for track in tracker.choose(seen, n / fps):
                chosen.append(n)
                track.ballot.vote(*(left.pop(0) if len(left) > 1 else left[0]), THRESHOLD)
        return chosen

    def test_a_sure_name_is_asked_for_seldom(self) -> None:
        assert self.embedded([sighting(100)] * 200, [("a", 6.0)]) == [0, 6, 96, 186]

    def test_an_unknown_face_is_asked_for_more_often(self) -> None:
        assert self.embedded([sighting(100)] * 90, [(None, 13.0)]) == [0, 6, 36, 66]

    def test_a_doubtful_face_is_asked_for_at_intervals(self) -> None:
        chosen = self.embedded([sighting(100)] * 120, [(None, 9.3)])
        assert chosen[:10] == list(range(0, 60, 6)) and chosen[10] == 84
        chosen = self.embedded([sighting(100)] * 30, [(who, 8.0) for who in "abcde"])
        assert chosen == [0, 6, 12, 18, 24]

    @pytest.mark.parametrize(
        "change",
        [
            sighting(100, person=2),
            sighting(100, sharpness=160),
            sighting(80, 80, side=130),
            sighting(220),
        ],
        ids=["another face", "sharper", "larger", "elsewhere"],
    )
    def test_what_changes_is_asked_for_at_once(self, change: Sighting) -> None:
        assert self.embedded([*[sighting(100)] * 30, *[change] * 20], [("a", 6.0)])[:3] == [0, 6, 30]

    def test_a_crowd_is_taken_in_turns(self) -> None:
        tracker = Tracker()
        crowd = [sighting(100 * n, person=n) for n in range(20)]
        turns = []
        for n in range(3):
            chosen = tracker.choose(tracker.update(crowd, n / 30), n / 30)
            turns.append([track.number for track in chosen])
        assert turns == [list(range(1, 9)), list(range(9, 17)), list(range(17, 21))]


class TestVoting:
    def test_before_any_vote(self) -> None:
        assert (Ballot().leader, Ballot().firm) == (None, False)

    def test_one_embedding_is_not_enough(self) -> None:
        assert (votes(("a", 2.0)).leader, votes(("a", 2.0)).firm) == ("a", False)
        assert votes(("a", 7.0), ("a", 7.5)).firm

    @pytest.mark.parametrize("bad", [("b", 6.0), (None, 14.0), (None, None)])
    def test_one_bad_frame_changes_nothing(self, bad: tuple[str | None, float | None]) -> None:
        ballot = votes(*[("a", 6.5)] * 4, bad)
        assert ballot.leader == "a" and ballot.firm and ballot.disputed

    def test_a_wrong_early_name_is_corrected(self) -> None:
        ballot = votes(*[("b", 8.7)] * 2, *[("a", 6.5)] * 2)
        assert ballot.leader == "a" and ballot.firm

    def test_a_known_face_that_is_often_not_recognised(self) -> None:
        """As in a real clip: distances to the own photo around the threshold."""
        ballot = votes(*[("a", 7.8), (None, 9.5), (None, 10.2), ("a", 8.3), (None, 9.9)])
        assert ballot.leader == "a"

    def test_somebody_who_is_gone(self) -> None:
        ballot = votes(*[("a", 6.0)] * 5, *[(None, 13.0)] * 8)
        assert ballot.leader is None and ballot.firm

    def test_a_stranger(self) -> None:
        assert not votes((None, 13.0)).firm and votes((None, 13.0), (None, 13.2)).firm
        assert not votes(*[(None, 9.2)] * 9).firm and votes(*[(None, 9.2)] * 10).firm
        assert votes(*[(None, None)] * 2).firm  # an empty gallery

    def test_a_person_who_was_deleted(self) -> None:
        ballot = votes(*[("a", 6.0)] * 3, ("b", 8.0))
        ballot.forget("a")
        ballot.forget("a")
        assert (ballot.leader, ballot.firm) == ("b", False)

    @given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.floats(0, 20)), max_size=30), st.floats(0, 30))
    def test_a_long_agreement_wins(self, history: list[tuple[str | None, float]], threshold: float) -> None:
        ballot = Ballot()
        for who, distance in history:
            ballot.vote(who, distance, threshold)
        for _ in range(25):
            ballot.vote("c", threshold / 2, threshold)
        assert ballot.leader == "c" and ballot.firm and not ballot.disputed


def test_a_track_that_has_gone_over_to_somebody_else() -> None:
    tracker = Tracker()
    (track,) = tracker.update([sighting(100)], 0)
    track.ballot.vote("a", 6.0, THRESHOLD)
    tracker.renew(track)
    assert (track.number, track.ballot, [type(one) for one in tracker.tracks]) == (2, Ballot(), [Track])
    assert [one.number for one in tracker.update([sighting(100), sighting(500)], 0.1)] == [2, 3]
