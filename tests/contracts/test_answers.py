"""Answers that are kept with what they tell of, in every database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from face_detection.gallery import Gallery
from face_detection.gallery.people import Sample
from face_detection.gallery.sql import answers
from face_detection.gallery.sql.answers import Answer, Answered, Once
from shared.errors import AnswerDeleted, InvalidRequest, KeyReused, StorageError
from tests.gallery_samples import SPACE, samples, vectors


def once(
    key: bytes = b"k" * 32,
    fingerprint: bytes = b"f" * 32,
    answer: Callable[[Sequence[Sample]], Answer] | None = None,
) -> Once[Sequence[Sample]]:
    def numbers(stored: Sequence[Sample]) -> Answer:
        return Answer(200, {"X": "y"}, ",".join(str(one.number) for one in stored).encode())

    return Once(key, fingerprint, answer or numbers)


def kept(gallery: Gallery, request: Once[Sequence[Sample]]) -> Answer | None:
    try:
        gallery.answers.find(request)
    except Answered as again:
        return again.answer
    return None


def test_an_answer_comes_back(gallery: Gallery) -> None:
    assert kept(gallery, once()) is None
    gallery.store.add("t", samples("ab"), once=once())
    assert kept(gallery, once()) == Answer(200, {"X": "y"}, b"1,2")
    assert kept(gallery, once(b"l" * 32)) is None
    gallery.store.upsert("t", samples("c"), once=once(b"l" * 32))
    assert kept(gallery, once(b"l" * 32)) == Answer(200, {"X": "y"}, b"")
    gallery.store.replace("t", 1, SPACE, vectors(1)[0], once=once(b"m" * 32))
    assert kept(gallery, once(b"m" * 32)) == Answer(200, {"X": "y"}, b"1")
    with pytest.raises(KeyReused):
        gallery.answers.find(once(fingerprint=b"g" * 32))


def test_a_request_of_which_nothing_could_be_stored_is_kept_too(gallery: Gallery) -> None:
    gallery.store.add("t", [], once=once())
    gallery.store.upsert("t", [], once=once(b"l" * 32))
    for key in (b"k", b"l"):
        assert kept(gallery, once(key * 32)) == Answer(200, {"X": "y"}, b"")


def test_what_was_done_is_not_done_again(gallery: Gallery) -> None:
    gallery.store.add("t", samples("a"), once=once())
    for again in (
        lambda: gallery.store.add("t", samples("a"), once=once()),
        lambda: gallery.store.upsert("t", samples("a"), once=once()),
        lambda: gallery.store.replace("t", 1, SPACE, vectors(1)[0], once=once()),
    ):
        with pytest.raises(Answered):
            again()
    with pytest.raises(KeyReused):
        gallery.store.add("t", samples("a"), once=once(fingerprint=b"g" * 32))
    assert (gallery.store.count("t"), gallery.store.last_change()) == (1, 1)


def test_neither_or_both_are_there(gallery: Gallery) -> None:
    def fail(stored: Sequence[Sample]) -> Answer:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        gallery.store.add("t", samples("a"), once=once(answer=fail))
    with pytest.raises(InvalidRequest, match="too large"):
        gallery.store.add("t", samples("a"), once=once(answer=lambda stored: Answer(200, {}, bytes(5 << 20))))
    assert (gallery.store.count("t"), kept(gallery, once())) == (0, None)
    gallery.store.add("t", samples("a"), once=once(answer=lambda stored: Answer(422, {}, b"failed")))
    assert kept(gallery, once()) is None


def test_of_many_at_once_one_is_done(gallery: Gallery) -> None:
    barrier = threading.Barrier(8)
    done: list[Answer | None] = []

    def work() -> None:
        barrier.wait()
        try:
            gallery.store.add("t", samples("a"), once=once())
            done.append(None)
        except Answered as again:
            done.append(again.answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gallery.store.count("t") == 1
    assert done.count(None) == 1 and {one.body for one in done if one} == {b"1"}


@pytest.mark.parametrize("deleted", ["person", "last photo", "one of two photos", "everybody"])
def test_a_deletion_takes_what_answers_tell_of_people(gallery: Gallery, deleted: str) -> None:
    gallery.store.add("t", samples("ab"), once=once())
    gallery.store.add("t", samples("c"), once=once(b"l" * 32))
    gallery.store.add("u", samples("a"), once=once(b"m" * 32))
    if deleted == "one of two photos":
        gallery.store.add("t", samples("a"))
    if deleted == "everybody":
        gallery.store.clear("t")
    elif deleted == "person":
        gallery.store.delete("t", "a")
    else:
        gallery.store.delete_sample("t", 1)
    with pytest.raises(AnswerDeleted):
        gallery.answers.find(once())
    with pytest.raises(AnswerDeleted):
        gallery.store.add("t", samples("ab"), once=once())
    if deleted == "everybody":
        with pytest.raises(AnswerDeleted):
            gallery.answers.find(once(b"l" * 32))
    else:
        assert kept(gallery, once(b"l" * 32)) == Answer(200, {"X": "y"}, b"3")
    assert kept(gallery, once(b"m" * 32)) is not None
    gallery.store.compact()


def test_answers_go_with_the_tenant(gallery: Gallery) -> None:
    gallery.store.add("v", samples("a"), once=once())
    gallery.store.clear("v")
    gallery.directory.delete_tenant("v")
    assert kept(gallery, once()) is None


def test_answers_are_kept_for_a_day(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    now = answers._now()
    gallery.store.add("t", samples("a"), once=once())
    gallery.store.add("t", samples("a"), once=once(b"l" * 32))
    monkeypatch.setattr(answers, "_now", lambda: now + answers.KEPT)
    assert kept(gallery, once()) is not None
    monkeypatch.setattr(answers, "_now", lambda: now + answers.KEPT + 60_000_000)
    assert kept(gallery, once()) is None
    gallery.store.add("t", samples("a"), once=once(fingerprint=b"g" * 32))
    assert kept(gallery, once(fingerprint=b"g" * 32)) == Answer(200, {"X": "y"}, b"3")
    gallery.answers.purge()
    monkeypatch.undo()
    assert kept(gallery, once(b"l" * 32)) is None
    assert kept(gallery, once(fingerprint=b"g" * 32)) is not None


def test_failures_are_translated(gallery: Gallery) -> None:
    gallery.close()
    with pytest.raises(StorageError):
        gallery.answers.find(once())
