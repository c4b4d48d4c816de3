"""The core of live recognition with the real model, and a clock that the tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient

from face_detection.api.operation import DIRECTORY, PEOPLE, RECOGNITION
from face_detection.api.own.live_conversation import LIVE
from face_detection.gallery.events import EventKind, Occasion
from face_detection.live.session import LiveResult, LiveSession
from face_detection.recognition.enrolment import Enrolment
from face_detection.recognition.identification import Recognised
from shared.errors import ExtractionUnavailable, UndecodableImage
from tests.conftest import Front
from tests.displays import on_display
from tests.face_detection.api.own.test_events import events
from tests.video_frames import HEIGHT, WIDTH, Actor, encoded, frame_at

OCCASION = Occasion(device=31, latitude=1.5, longitude=2.5)

FPS = 10


class Video:
    """A session, and the time at which it is."""

    def __init__(self, front: TestClient, limit: float | None = None) -> None:
        assert front.app is not None
        self.now = 0.0
        self.session = LiveSession(front.app[LIVE], "default", OCCASION, limit=limit, clock=lambda: self.now)

    async def show(self, *actors: Actor, frames: range) -> list[LiveResult]:
        results = []
        for number in frames:
            self.now += 1 / FPS
            results.append(await self.session.process(encoded(frame_at(actors, number))))
        return results

    def found(self) -> list[Recognised]:
        return [one for identity in self.session._identities.values() for one in identity.found.values()]


def names(result: LiveResult) -> list[str | None]:
    return [face.person and face.person.id for face in result.faces]


def embedded(results: list[LiveResult]) -> int:
    return sum(face.embedded for result in results for face in result.faces)


@pytest.fixture
def enrol(front: TestClient, photos: Path) -> Callable[..., Awaitable[None]]:
    async def store(**people: str) -> None:
        assert front.app is not None
        enrolments = [Enrolment(id, id.title(), (photos / photo).read_bytes()) for id, photo in people.items()]
        await front.app[RECOGNITION].enrol("default", enrolments)

    return store


@pytest_asyncio.fixture
async def video(front: TestClient) -> AsyncIterator[Video]:
    yield Video(front)


async def test_one_event_for_each_who_comes(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    await enrol(barack="obama.jpg")
    actors = [Actor(photos / "obama2.jpg", 40, step=2), Actor(photos / "biden.jpg", 400)]
    results = await video.show(*actors, frames=range(40))
    assert {(result.width, result.height) for result in results} == {(WIDTH, HEIGHT)}
    assert all(names(result) == ["barack", None] for result in results)
    assert {face.track for result in results for face in result.faces} == {1, 2}
    assert embedded(results) <= len(results) * 2 / 5
    page = (await events(front, 3))["events"]
    seen = {event["kind"]: event for event in page}
    assert len(page) == 3 and set(seen) == {"enrolled", "recognised", "unknown"}
    assert (seen["recognised"]["person"], seen["recognised"]["device"]) == ("barack", 31)
    assert (seen["unknown"]["latitude"], seen["unknown"]["longitude"]) == (1.5, 2.5)
    assert seen["unknown"]["distance"] > 9 > seen["recognised"]["distance"]


async def test_somebody_else_in_the_same_place(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    """A cut in the film: the box stays, the face is another's, and so is the name, within half a second."""
    await enrol(barack="obama.jpg", joe="biden.jpg")
    before = await video.show(Actor(photos / "obama2.jpg", 200), frames=range(20))
    after = await video.show(Actor(photos / "biden.jpg", 200), frames=range(10))
    assert {*map(tuple, map(names, before))} == {("barack",)}
    assert {*map(tuple, map(names, after[5:]))} == {("joe",)}
    assert before[-1].faces[0].track != after[-1].faces[0].track
    assert before[-1].faces[0].box.iou(after[-1].faces[0].box) > 0.3
    assert front.app is not None
    kinds = [(event["kind"], event["person"]) for event in (await events(front, 4))["events"]]
    assert kinds[:2] == [("recognised", "joe"), ("recognised", "barack")]


async def test_a_spoilt_face_changes_no_name_and_gets_none(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    await enrol(barack="obama.jpg")

    async def show_blurred(video: Video) -> list[LiveResult]:
        shown = []
        for _ in range(20):
            video.now += 1 / FPS
            frame = cv2.GaussianBlur(frame_at([Actor(photos / "obama2.jpg", 200)], 0), (0, 0), 6)
            shown.append(await video.session.process(encoded(np.asarray(frame, np.uint8))))
        return shown

    (*_, clear) = await video.show(Actor(photos / "obama2.jpg", 200), frames=range(10))
    for result in await show_blurred(video):
        assert names(result) == ["barack"] and result.faces[0].reason is None
        assert result.faces[0].track == clear.faces[0].track
    fresh = Video(front)
    for result in await show_blurred(fresh):
        assert names(result) == [None] and result.faces[0].visit is None
        assert result.faces[0].reason == "low_quality"
    kinds = [(event["kind"], event["person"]) for event in (await events(front, 2))["events"]]
    assert kinds == [("recognised", "barack"), ("enrolled", "barack")]


async def test_who_steps_out_of_view_is_still_there(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    """Known or not: one visit, and one event, for each. Whoever was away for longer comes anew."""
    await enrol(barack="obama.jpg")
    actors = [Actor(photos / "obama2.jpg", 40, step=2), Actor(photos / "biden.jpg", 400)]
    results = await video.show(*actors, frames=range(15))
    for _ in range(3):
        video.now += 8
        await video.show(frames=range(1))
        results += await video.show(*actors, frames=range(15))
    sure = [face for result in results for face in result.faces if face.visit]
    assert {(face.person and face.person.id, face.visit) for face in sure} == {("barack", 1), (None, 2)}
    assert len({face.track for face in sure}) == 8
    assert sorted(event["kind"] for event in (await events(front, 3))["events"]) == [
        "enrolled",
        "recognised",
        "unknown",
    ]
    video.now += 31
    later = (await video.show(*actors, frames=range(15)))[-1]
    assert [face.visit for face in later.faces] == [3, 4]
    assert len((await events(front, 5))["events"]) == 5


async def test_strangers_are_told_apart(front: TestClient, video: Video, photos: Path) -> None:
    await video.show(Actor(photos / "obama2.jpg", 200), frames=range(15))
    video.now += 5
    other = await video.show(Actor(photos / "biden.jpg", 200), frames=range(15))
    video.now += 5
    again = await video.show(Actor(photos / "obama3.jpg", 200), frames=range(15))
    assert [result[-1].faces[0].visit for result in (other, again)] == [2, 1]
    assert [event["kind"] for event in (await events(front, 2))["events"]] == ["unknown", "unknown"]


async def test_a_face_that_comes_nearer(video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]) -> None:
    """It is embedded again as it grows, and keeps its number."""
    await enrol(barack="obama.jpg")
    still = await video.show(Actor(photos / "obama3.jpg", 200), frames=range(20))
    nearer = await video.show(Actor(photos / "obama3.jpg", 200, growth=1.03), frames=range(20))
    assert {face.track for result in still + nearer for face in result.faces} == {1}
    assert embedded(still) == 2 and embedded(nearer) >= 2


async def test_without_people(video: Video) -> None:
    (result,) = await video.show(frames=range(1))
    assert result.faces == []


async def test_a_frame_that_is_none(video: Video, photos: Path) -> None:
    with pytest.raises(UndecodableImage):
        await video.session.process(encoded(frame_at([], 0))[:500])
    (result,) = await video.show(Actor(photos / "biden.jpg", 200), frames=range(1))
    assert names(result) == [None] and result.faces[0].distance is None and not result.faces[0].firm


async def test_the_threshold(front: TestClient, photos: Path, enrol: Callable[..., Awaitable[None]]) -> None:
    await enrol(barack="obama.jpg")
    actor = Actor(photos / "obama2.jpg", 200)
    strict = Video(front, limit=1)
    assert names((await strict.show(actor, frames=range(8)))[-1]) == [None]
    strict.session.limit = 9
    assert strict.session.limit == 9
    results = await strict.show(actor, frames=range(8))
    assert names(results[-1]) == ["barack"] and results[-1].faces[0].firm
    assert results[-1].faces[0].track == 1


async def test_people_who_change(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    assert front.app is not None
    await enrol(barack="obama.jpg")
    actor = Actor(photos / "obama2.jpg", 200)
    await video.show(actor, frames=range(15))
    await front.patch("/people/barack", json={"name": "Mr President", "metadata": [1]})
    last = (await video.show(actor, frames=range(12)))[-1].faces[0].person
    assert last is not None and (last.name, last.metadata) == ("Mr President", [1])
    await front.app[PEOPLE].delete("default", "barack")
    assert names((await video.show(actor, frames=range(12)))[-1]) == [None]
    await enrol(barack="obama.jpg")
    assert names((await video.show(actor, frames=range(15)))[-1]) == ["barack"]


async def test_a_combination_of_networks(start_front: Front, combined_url: str, photos: Path) -> None:
    front = await start_front(extraction_url=combined_url)
    response = await front.patch("/companies/default", json={"settings": {"keep_crops": True}})
    assert response.status == 200
    await front.app[RECOGNITION].enrol("default", [Enrolment("barack", "Barack", (photos / "obama.jpg").read_bytes())])
    assert names((await Video(front).show(Actor(photos / "obama2.jpg", 200), frames=range(10)))[-1]) == ["barack"]
    (event,) = (await events(front, 1, kind=EventKind.RECOGNISED.value))["events"]
    file = await (await front.get(f"/events/{event['number']}/crop")).read()
    crop = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert crop.shape == (112, 112, 3)


async def test_crops_are_kept_when_the_tenant_asks(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    await enrol(barack="obama.jpg")
    response = await front.patch("/companies/default", json={"settings": {"keep_crops": True}})
    assert response.status == 200, await response.text()
    await video.show(Actor(photos / "obama2.jpg", 200), frames=range(5))
    (event,) = (await events(front, 1, kind=EventKind.RECOGNISED.value))["events"]
    crop = await (await front.get(f"/events/{event['number']}/crop")).read()
    assert crop.startswith(b"\xff\xd8")


async def test_without_the_extraction_service(start_front: Front, photos: Path, unused_tcp_port: int) -> None:
    front = await start_front(extraction_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ExtractionUnavailable):
        await Video(front).show(Actor(photos / "obama2.jpg", 200), frames=range(1))


@pytest.mark.slow
async def test_real_film(faces: Path, front: TestClient) -> None:
    """A clip with cuts: the two men are told apart although the one comes to stand where the other was."""

    assert front.app is not None
    stills = {"miranda": "lin-manuel-miranda.png", "obama": "obama.jpg"}
    enrolments = [Enrolment(id, id, (faces / "stills" / file).read_bytes()) for id, file in stills.items()]
    await front.app[RECOGNITION].enrol("default", enrolments)
    capture = cv2.VideoCapture(str(faces / "video" / "short_hamilton_clip.mp4"))
    video, seen = Video(front), []
    for number in range(275):
        read, frame = capture.read()
        assert read
        if number % 3 == 0:
            video.now = number / 30
            seen.append(names(await video.session.process(encoded(np.asarray(frame, np.uint8)))))
    first, audience, alone, second = seen[:7], seen[7:28], seen[28:70], seen[71:]
    assert sum("miranda" in one for one in first) >= 2
    assert not any(any(one) for one in audience)
    assert sum(one == ["miranda"] for one in alone) >= 0.6 * len(alone)
    assert not any("miranda" in one for one in second[3:])


async def test_whose_photo_goes_is_known_by_the_others(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    assert front.app is not None
    await enrol(barack="obama.jpg")
    person = Enrolment("barack", "", (photos / "obama3.jpg").read_bytes())
    await front.app[RECOGNITION].add("default", [person])
    seen = await video.show(Actor(photos / "obama2.jpg", 40), frames=range(20))
    assert names(seen[-1]) == ["barack"]
    (nearest,) = {one.sample.number for one in video.found() if one.sample}
    await front.app[PEOPLE].delete_sample("default", nearest)
    later = await video.show(Actor(photos / "obama2.jpg", 40), frames=range(20, 35))
    assert [names(result) for result in later] == [["barack"]] * 15
    assert later[-1].faces[0].distance != seen[-1].faces[0].distance


async def test_whose_photo_becomes_another_one_is_compared_anew(
    front: TestClient, video: Video, photos: Path, enrol: Callable[..., Awaitable[None]]
) -> None:
    await enrol(barack="obama.jpg")
    seen = await video.show(Actor(photos / "obama2.jpg", 40), frames=range(20))
    assert names(seen[-1]) == ["barack"]
    await enrol(barack="biden.jpg")
    later = await video.show(Actor(photos / "obama2.jpg", 40), frames=range(20, 35))
    assert names(later[-1]) == [None]


async def test_a_picture_that_takes_a_persons_place_loses_the_name(
    start_front: Front, liveness_url: str, photos: Path
) -> None:
    front = await start_front(extraction_url=liveness_url)
    assert front.app is not None
    photo = (photos / "obama.jpg").read_bytes()
    await front.app[RECOGNITION].enrol("default", [Enrolment("barack", "Barack", photo)])
    video = Video(front)
    real = (photos / "obama3.jpg").read_bytes()
    shown = on_display(photos / "obama2.jpg")

    async def show(frame: bytes, frames: int) -> list[LiveResult]:
        results = []
        for _ in range(frames):
            video.now += 0.25
            results.append(await video.session.process(frame))
        return results

    assert {*map(tuple, map(names, await show(shown, 3)))} == {("barack",)}  # nobody asks yet
    video.session.liveness = True
    before = await show(real, 6)
    assert {*map(tuple, map(names, before))} == {("barack",)}
    assert all(face.liveness is not None and face.liveness >= 0.5 for result in before for face in result.faces)
    after = await show(shown, 30)
    (face,) = after[-1].faces
    assert (face.person, face.reason) == (None, "not_live") and face.liveness is not None and face.liveness < 0.5
    video.session.liveness = False
    assert names((await show(shown, 6))[-1]) == ["barack"]
    front.app[DIRECTORY].update_tenant("default", settings={"liveness": "required"})
    required = await show(shown, 6)
    assert {*map(tuple, map(names, required))} == {(None,)}
