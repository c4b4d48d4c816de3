"""What locks must be, whatever database they belong to."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from face_detection.gallery import Gallery, open_gallery
from tests.conftest import ROOT


@pytest.fixture
def open_another(database: str) -> Iterator[Callable[[], Gallery]]:
    """Opens the gallery as another process would; the one in memory is the same one again."""
    opened: list[Gallery] = []

    def open_one() -> Gallery:
        if database != ":memory:" or not opened:
            opened.append(open_gallery(database))
        return opened[-1]

    yield open_one
    for gallery in opened:
        gallery.close()


def test_a_turn_is_given_to_one_at_a_time(open_another: Callable[[], Gallery]) -> None:
    one, other = open_another().locks, open_another().locks
    for _ in range(2):
        with one.take("a") as first, other.take("a") as second, one.take("a") as third, other.take("b") as apart:
            assert (first, second, third, apart) == (True, False, False, True)
    with other.take("a") as after:
        assert after


def test_a_turn_ends_with_an_error(open_another: Callable[[], Gallery]) -> None:
    locks = open_another().locks
    with pytest.raises(RuntimeError, match="over"), locks.take("a") as taken:
        assert taken
        raise RuntimeError("over")
    with locks.take("a") as again:
        assert again


def test_threads_take_turns(open_another: Callable[[], Gallery]) -> None:
    galleries = [open_another(), open_another()]
    inside = 0
    most = 0
    turns_had = 0
    lock = threading.Lock()

    def work(gallery: Gallery) -> None:
        nonlocal inside, most, turns_had
        for _ in range(50):
            with gallery.locks.take("a") as taken:
                if not taken:
                    continue
                with lock:
                    inside += 1
                    turns_had += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(gallery,)) for gallery in galleries * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and turns_had > 0


def test_a_process_that_is_killed_gives_its_turn_back(database: str, open_another: Callable[[], Gallery]) -> None:
    if database == ":memory:":
        pytest.skip("a database in memory has one process")
    locks = open_another().locks
    program = (
        "import sys; from face_detection.gallery import open_gallery\n"
        "with open_gallery(sys.argv[1]).locks.take('a') as taken: print(taken, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, database], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "True\n"
    with locks.take("a") as taken:
        assert not taken
    process.kill()
    process.wait(30)
    process.stdout.close()
    process.stdin.close()
    returned = threading.Event()
    for _ in range(100):  # PostgreSQL notices within milliseconds
        with locks.take("a") as taken:
            if taken:
                returned.set()
                break
        returned.wait(0.05)
    assert returned.is_set()
