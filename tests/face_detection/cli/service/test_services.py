"""What the command line's services promise, over HTTP and in the same process."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from face_detection.access import Access
from face_detection.cli.service.local import LocalService
from face_detection.cli.service.protocol import (
    FAULTS_OF_PICTURES,
    Enrolled,
    How,
    Look,
    Photo,
    Record,
    Service,
    check_id,
    check_name,
)
from face_detection.cli.service.remote import Refused, RemoteService, Unreachable
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import Right, TenantSettings
from face_detection.gallery.people import Description, NewSample
from shared.errors import InvalidRequest, NotFound, ServiceError, SettingsError, SpaceMismatch
from shared.settings import FrontSettings
from tests.displays import on_display
from tests.pictures import far_away
from tests.running_front import running_front


@contextmanager
def remote(settings: FrontSettings) -> Iterator[Service]:
    with running_front(settings) as url:
        service = RemoteService(url, None)
        try:
            yield service
        finally:
            service.close()


@contextmanager
def local(settings: FrontSettings) -> Iterator[Service]:
    service = LocalService(settings, "default")
    try:
        yield service
    finally:
        service.close()


KINDS = {"remote": remote, "local": local}


@pytest.fixture(params=KINDS)
def service(request: pytest.FixtureRequest, front_settings: FrontSettings) -> Iterator[Service]:
    with KINDS[request.param](front_settings) as service:
        service.prepare()
        yield service


@pytest.fixture
def photo(photos: Path) -> Callable[[str], bytes]:
    return lambda name: (photos / f"{name}.jpg").read_bytes()


def codes(outcomes: object) -> list[str]:
    assert isinstance(outcomes, list | tuple)
    return [one.code if isinstance(one, ServiceError) else "enrolled" for one in outcomes]


def test_a_picture_may_be_written_as_text(service: Service, photo: Callable[[str], bytes]) -> None:
    text = base64.b64encode(photo("obama"))
    assert isinstance(service.add("44", "Barack", [b"\n data:image/jpeg;base64," + text])[0], Enrolled)
    assert [one.id for one in service.recognise(base64.urlsafe_b64encode(photo("obama2")))] == ["44"]
    assert service.verify(text, photo("obama2")).same
    with pytest.raises(ServiceError, match="fetches nothing by itself") as caught:
        service.recognise(b"https://example.org/photo.jpg")
    assert caught.value.code == "image_by_reference" and caught.value.code in FAULTS_OF_PICTURES


def test_whoever_is_enrolled_is_recognised(service: Service, photo: Callable[[str], bytes]) -> None:
    (stranger,) = service.recognise(photo("obama2"))
    assert (stranger.id, stranger.name, stranger.distance) == (None, None, None)
    outcomes = service.enrol([Photo("44", "Barack", photo("obama")), Photo("46", "Joe", photo("biden"))])
    assert list(outcomes) == [Enrolled(), Enrolled()]
    (seen,) = service.recognise(photo("obama2"))
    assert (seen.id, seen.name) == ("44", "Barack") and seen.distance is not None and 3 < seen.distance < 9
    assert seen.distance == round(seen.distance, 4) and seen.box.area > 10_000
    (unknown,) = service.recognise(photo("obama2"), How(1.0))
    assert (unknown.id, unknown.distance) == (None, seen.distance)
    assert [one.id for one in service.recognise(photo("t1"))] == [None] * 6


def test_both_give_the_same_answers(front_settings: FrontSettings, photo: Callable[[str], bytes]) -> None:
    """On one database, one after the other and at the same time."""
    answers = []
    with remote(front_settings) as over_http, local(front_settings) as here:
        over_http.enrol([Photo("44", "Barack", photo("obama"))])
        here.add("44", "Other", [photo("obama2")])
        for service in (over_http, here):
            answers.append(
                (
                    [list(service.recognise(photo(name))) for name in ("obama3", "t1")],
                    service.verify(photo("obama"), photo("obama3")),
                    list(service.people(None)),
                    service.photos("44"),
                    [(one.id, one.name, one.missing, *pairs(one)) for one in service.export()],
                )
            )
    assert answers[0] == answers[1]
    assert answers[0][2][0].samples == 2 and answers[0][2][0].name == "Barack"


def pairs(record: Record) -> list[tuple[str, list[float]]]:
    return [(space, vector.tolist()) for space, vector in record.samples]


def test_bad_pictures_fail_alone(service: Service, photo: Callable[[str], bytes], photos: Path) -> None:
    _, blank = cv2.imencode(".png", np.full((200, 200, 3), 128, np.uint8))
    outcomes = service.enrol(
        [Photo("a", "A", b"no picture"), Photo("b", "B", photo("t1")), Photo("c", "C", blank.tobytes())]
    )
    assert codes(outcomes) == ["unsupported_image_type", "enrolled", "no_face"]
    assert list(outcomes[1].warnings) == ["The image shows 6 faces; that at 461, 270, 109, 147 was enrolled."]  # type: ignore[union-attr]
    outcomes = service.add("b", "B", [b"no picture", photo("biden"), blank.tobytes()])
    assert codes(outcomes) == ["unsupported_image_type", "enrolled", "no_face"]
    assert [(one.id, one.samples) for one in service.people(None)] == [("b", 2)]


def test_small_faces_are_looked_for_on_request(service: Service, photos: Path) -> None:
    distant, portrait = far_away(photos / "obama.jpg"), (photos / "obama.jpg").read_bytes()
    assert list(service.recognise(distant)) == []
    assert len(service.recognise(distant, How(detection="thorough"))) == 1
    assert codes(service.enrol([Photo("44", "Barack", distant)])) == ["no_face"]
    assert codes(service.add("44", "Barack", [distant])) == ["no_face"]
    # Found, which is what counts here, but too small to be a sample.
    assert codes(service.enrol([Photo("44", "Barack", distant, Look(detection="thorough"))])) == ["low_quality"]
    assert codes(service.add("44", "Barack", [distant], Look(detection="thorough"))) == ["low_quality"]
    with pytest.raises(ServiceError, match="no face"):
        service.encode(distant)
    assert len(service.encode(distant, "thorough").vector) == 128
    with pytest.raises(ServiceError, match="no face") as caught:
        service.verify(portrait, distant)
    assert (caught.value.code, caught.value.input) == ("no_face", "image2")
    assert service.verify(portrait, distant, How(detection="thorough")).boxes[1].width < 40


def test_spoilt_faces_are_neither_enrolled_nor_named(service: Service, photo: Callable[[str], bytes]) -> None:
    picture = cv2.imdecode(np.frombuffer(photo("obama"), np.uint8), cv2.IMREAD_COLOR)
    blurred = cv2.imencode(".png", cv2.GaussianBlur(picture, (0, 0), 15))[1].tobytes()
    assert codes(service.add("44", "Barack", [blurred, photo("obama")])) == ["low_quality", "enrolled"]
    (seen,) = service.recognise(blurred, How(20))
    assert (seen.id, seen.reason) == (None, "low_quality") and seen.quality is not None and seen.quality < 0.2
    (seen,) = service.recognise(photo("obama2"))
    assert (seen.id, seen.reason) == ("44", None) and seen.quality is not None and seen.quality > 0.5
    compared = service.verify(blurred, photo("obama"), How(20))
    assert (compared.same, compared.reason) == (False, "low_quality")
    assert service.verify(photo("obama2"), photo("obama")).reason is None


def test_photos_that_contradict_others(service: Service, photo: Callable[[str], bytes]) -> None:
    service.enrol([Photo("44", "Barack", photo("obama"))])
    refusing = Look(on_conflict="refuse")
    assert codes(service.add("45", "Joe", [photo("obama2")], refusing)) == ["photo_conflict"]
    assert codes(service.enrol([Photo("45", "Joe", photo("obama2"), refusing)])) == ["photo_conflict"]
    (stored,) = service.add("45", "Joe", [photo("obama2")])
    (again,) = service.enrol([Photo("45", "Joe", photo("obama2"))])
    assert stored == again and isinstance(stored, Enrolled)
    assert [said.startswith("The face is nearer to photo 1 of Barack (44) than") for said in stored.warnings] == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_are_too_large_fail_alone(
    kind: str, front_settings: FrontSettings, photo: Callable[[str], bytes]
) -> None:
    small, large = photo("obama"), photo("obama") + bytes(2_000_000)
    settings = front_settings.model_copy(update={"max_image_bytes": 1_000_000})
    with KINDS[kind](settings) as service:
        outcomes = service.enrol([Photo("a", "A", small), Photo("b", "B", large), Photo("c", "C", small)])
        assert [one == "enrolled" for one in codes(outcomes)] == [True, False, True]
        assert [one == "enrolled" for one in codes(service.add("a", "A", [large, small]))] == [False, True]
        with pytest.raises(ServiceError, match="bytes"):
            service.recognise(large)
        assert [(one.id, one.samples) for one in service.people(None)] == [("a", 2), ("c", 1)]


def test_verify(service: Service, photo: Callable[[str], bytes]) -> None:
    found = service.verify(photo("obama"), photo("obama2"))
    assert (
        found.same and found.threshold == 9 and 0 < found.distance < 9 and all(0 < one <= 1 for one in found.qualities)
    )
    assert not service.verify(photo("obama"), photo("biden")).same
    assert not service.verify(photo("obama"), photo("obama2"), How(found.distance / 2)).same
    with pytest.raises(ServiceError, match="not a JPEG"):
        service.verify(photo("obama"), b"no picture")


def test_people(service: Service, photo: Callable[[str], bytes]) -> None:
    service.enrol([Photo("44", "Barack", photo("obama")), Photo("a/b c?", "Jö%", photo("biden"))])
    assert [one.id for one in service.people("JÖ".lower())] == ["a/b c?"] and list(service.people("nobody")) == []
    service.rename("a/b c?", "Joe")
    assert service.person("a/b c?").name == "Joe" and service.person("44").name == "Barack"
    service.add("44", "ignored", [photo("obama2")])
    first, second = service.photos("44")
    assert first.number < second.number and first.updated_at <= second.updated_at and first.space.startswith("facenet/")
    service.delete_photo("44", first.number)
    assert [one.number for one in service.photos("44")] == [second.number]
    service.delete("44")
    assert [one.id for one in service.people(None)] == ["a/b c?"]
    service.clear()
    assert list(service.people(None)) == []


def test_there_is_nobody(service: Service, photo: Callable[[str], bytes]) -> None:
    service.enrol([Photo("44", "Barack", photo("obama"))])
    for work in (
        lambda: service.person("x"),
        lambda: service.rename("x", "X"),
        lambda: service.delete("x"),
        lambda: service.photos("x"),
        lambda: service.delete_photo("x", service.photos("44")[0].number),
        lambda: service.delete_photo("44", 999),
    ):
        with pytest.raises(ServiceError) as refused:
            work()
        assert refused.value.code == "not_found"
    assert service.person("44").samples == 1


def test_export_has_everybody(service: Service, photo: Callable[[str], bytes], front_settings: FrontSettings) -> None:
    service.enrol([Photo("46", "Joe", photo("biden")), Photo("44", "Barack", photo("obama"))])
    service.add("44", "", [photo("obama2")])
    gallery = open_gallery(front_settings.database)
    other = NewSample("44", "", None, "sface/1/x/y", np.ones(4, np.float32))
    gallery.store.add("default", [other])
    barack, joe = service.export()
    gallery.close()
    assert (barack.id, barack.name, barack.metadata, joe.id, len(joe.samples)) == ("44", "Barack", None, "46", 1)
    # A service gives out only what belongs to its model.
    assert len(barack.samples) + barack.missing == 3 and barack.missing in (0, 1)
    assert all(vector.shape == (128,) for space, vector in barack.samples if space.startswith("facenet"))


def test_metadata_is_exported_whatever_it_is(front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    metadata = {"a": {"floor": 2}, "b": [1, None], "c": "text", "d": None}
    with KINDS["local"](front_settings) as here:
        here.prepare()
        space = here.space()  # type: ignore[attr-defined]
    vector = np.ones(128, np.float32)
    gallery.store.upsert("default", [NewSample(id, id, value, space, vector, "go") for id, value in metadata.items()])
    gallery.close()
    for open_service in KINDS.values():
        with open_service(front_settings) as service:
            assert {one.id: one.metadata for one in service.export()} == metadata
            assert {one.action for one in service.export()} == {"go"}


def test_records_are_stored_as_they_are(front_settings: FrontSettings) -> None:
    a, b = (np.full(128, value, np.float32) for value in (1, 2))
    service = LocalService(front_settings, "default")
    try:
        service.prepare()
        space = service.space()
        records = [Record("x", "X", {"n": 1}, "go", [(space, a), ("other/space", b), (space, b)])]
        service.store(records)
        service.store(records)
        (found,) = service.export()
        assert (found.id, found.name, found.metadata, found.action) == ("x", "X", {"n": 1}, "go")
        assert pairs(found) == [(space, a.tolist()), ("other/space", b.tolist()), (space, b.tolist())]
        with pytest.raises(SpaceMismatch):
            service.store([Record("y", "Y", None, None, [(space, np.ones(5, np.float32))])])
        assert [one.id for one in service.people(None)] == ["x"]
    finally:
        service.close()


def test_companies_are_apart(front_settings: FrontSettings, photo: Callable[[str], bytes]) -> None:
    gallery = open_gallery(front_settings.database)
    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    _, key = Access(gallery.directory, False).create_key("1042", "all", [Right.ADMIN])
    gallery.close()
    here = LocalService(front_settings, "1042")
    here.enrol([Photo("46", "Joe", photo("biden"))])
    with running_front(front_settings) as url:
        there = RemoteService(url, key)
        assert [one.id for one in there.people(None)] == ["46"]
        there.close()
    here.close()
    with local(front_settings) as default:
        assert list(default.people(None)) == []
    with pytest.raises(NotFound):
        LocalService(front_settings, "nobody")
    with pytest.raises(SettingsError, match=":memory:"):
        LocalService(front_settings.model_copy(update={"database": ":memory:"}), "default")


def test_keys(front_settings: FrontSettings, photo: Callable[[str], bytes]) -> None:
    gallery = open_gallery(front_settings.database)
    access = Access(gallery.directory, False)
    texts = {right: access.create_key("default", right, [right])[1] for right in Right}
    gallery.close()
    with running_front(front_settings) as url:

        def code(key: str | None, work: Callable[[RemoteService], object]) -> str:
            service = RemoteService(url, key)
            try:
                work(service)
                return ""
            except Refused as error:
                assert key or "FACE_API_KEY" in error.message
                return error.code
            finally:
                service.close()

        def look(service: RemoteService) -> object:
            return list(service.people(None))

        def recognise(service: RemoteService) -> object:
            return service.recognise(photo("obama"))

        assert [code(key, look) for key in (None, "wrong", texts[Right.RECOGNISE], texts[Right.ENROL])] == [
            "unauthorized",
            "unauthorized",
            "forbidden",
            "",
        ]
        assert [code(key, recognise) for key in (None, texts[Right.RECOGNISE], texts[Right.ENROL])] == [
            "unauthorized",
            "",
            "forbidden",
        ]
        assert code(texts[Right.ENROL], RemoteService.clear) == "forbidden"
        assert code(texts[Right.ENROL], lambda one: list(one.export())) == ""


def test_a_busy_service_is_asked_again(front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    _, key = Access(gallery.directory, False).create_key("default", "a", [Right.ENROL], requests_per_minute=1)
    gallery.close()
    waits: list[float] = []
    with running_front(front_settings) as url, pytest.MonkeyPatch.context() as patch:

        def pause(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                raise KeyboardInterrupt

        patch.setattr("face_detection.cli.service.remote.time.sleep", pause)
        service = RemoteService(url, key)
        list(service.people(None))
        with pytest.raises(KeyboardInterrupt):
            list(service.people(None))
        service.close()
    assert len(waits) == 3 and all(1 <= seconds <= 60 for seconds in waits)


def test_what_is_not_a_service(extraction_url: str) -> None:
    for url in ("ftp://127.0.0.1", "127.0.0.1:6337", "http://", "http://[", "http://h:99999"):
        with pytest.raises(SettingsError, match="not an address"):
            RemoteService(url, None)
    for key in ("a\nb", "schlüssel"):
        with pytest.raises(SettingsError, match="FACE_API_KEY"):
            RemoteService("http://127.0.0.1:1", key)
    nobody, other = RemoteService("http://127.0.0.1:1", None), RemoteService(extraction_url, None)
    with pytest.raises(Unreachable, match="--local"):
        nobody.prepare()
    with pytest.raises(ServiceError):
        list(other.people(None))
    nobody.close()
    other.close()


def test_ids_and_names() -> None:
    assert check_id("a" * 256) and check_name("ö" * 512) and check_id("e\u0301") == "é"
    for id in ("", " ", ".", "..", "a\nb", "a" * 257, "a\0b", "\udcff"):
        with pytest.raises(InvalidRequest):
            check_id(id)
    for name in ("", " ", "a" * 513, "\0", "\ud800"):
        with pytest.raises(InvalidRequest):
            check_name(name)


@contextmanager
def breaking(url: str) -> Iterator[str]:
    """A way to a service on which the first answer to new photos is lost, with its connection."""
    there = urlsplit(url)
    broken = threading.Event()

    def pass_on(source: socket.socket, sink: socket.socket, asked: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if sink is not client_of[source] and b"/photos HTTP" in data:
                    asked.set()
                if sink is client_of[source] and asked.is_set() and not broken.is_set():
                    broken.set()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    client_of: dict[socket.socket, socket.socket] = {}
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((there.hostname, there.port))
                asked = threading.Event()
                client_of.update({client: client, server: client})
                sockets.extend((client, server))
                for source, sink in ((client, server), (server, client)):
                    threads.append(threading.Thread(target=pass_on, args=(source, sink, asked)))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert broken.is_set()
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for one in sockets:
        one.close()


def test_photos_whose_answer_was_lost_are_sent_again_and_taken_once(
    front_settings: FrontSettings, photo: Callable[[str], bytes]
) -> None:
    with running_front(front_settings) as url, breaking(url) as way:
        service = RemoteService(way, None)
        assert list(service.add("44", "Barack", [photo("obama")])) == [Enrolled()]
        assert [one.samples for one in service.people(None)] == [1]
        service.close()


def test_a_new_name_keeps_what_others_change_meanwhile(
    service: Service, front_settings: FrontSettings, photo: Callable[[str], bytes]
) -> None:
    service.enrol([Photo("44", "Barack", photo("obama"))])
    gallery = open_gallery(front_settings.database)
    with ThreadPoolExecutor(2) as pool:
        for number in range(50):
            both = (
                pool.submit(service.rename, "44", f"{number}"),
                pool.submit(gallery.store.describe, "default", "44", Description(metadata=number)),
            )
            for done in both:
                done.result()
            person = service.person("44")
            assert (person.name, person.metadata) == (f"{number}", number)
    gallery.close()


def test_both_check_liveness(
    front_settings: FrontSettings, liveness_url: str, photos: Path, photo: Callable[[str], bytes]
) -> None:
    settings = front_settings.model_copy(update={"extraction_url": liveness_url})
    screen, answers = on_display(photos / "obama2.jpg"), []
    with remote(settings) as over_http, local(settings) as here:
        over_http.enrol([Photo("44", "Barack", photo("obama"))])
        for service in (over_http, here):
            (seen,) = service.recognise(screen, How(liveness=True))
            assert (seen.id, seen.reason) == (None, "not_live") and seen.liveness is not None and seen.liveness < 0.5
            (real,) = service.recognise(photo("obama3"), How(liveness=True))
            assert (real.id, real.reason) == ("44", None) and real.liveness is not None and real.liveness >= 0.5
            (unchecked,) = service.recognise(screen)
            assert (unchecked.id, unchecked.liveness) == ("44", None)
            found = service.verify(photo("obama3"), screen, How(liveness=True))
            assert (found.same, found.reason) == (False, "not_live") and found.liveness is not None
            answers.append((seen, real, found))
    assert answers[0] == answers[1]
