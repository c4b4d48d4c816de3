"""The limits of API keys, which hold for all fronts of one PostgreSQL database together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from deploy.servers.postgres import PostgresServer
from face_detection.access import Access
from face_detection.gallery.directory import Right
from face_detection.gallery.sql.store import Store
from shared.errors import QuotaExceeded, RateLimited, StorageUnavailable
from tests.conftest import ROOT, Front
from tests.galleries import open_gallery
from tests.gallery_samples import samples

HAMMER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from face_detection.gallery import open_gallery

gallery = open_gallery(sys.argv[1])
gallery.store.last_change()
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(lambda _: gallery.rates.hit(sys.argv[2], 150), range(200)))
print(answers.count(None), max(filter(None, answers)))
"""


def new_key(url: str, requests_per_minute: int) -> tuple[str, str]:
    """Id and text of a new key."""
    gallery = open_gallery(url)
    access = Access(gallery.directory, False)
    key, text = access.create_key("default", "door", [Right.ADMIN], requests_per_minute=requests_per_minute)
    gallery.close()
    return key.id, text


def change(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def test_processes_that_hammer_with_one_key(postgres_url: str) -> None:
    key, _ = new_key(postgres_url, 150)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HAMMER, postgres_url, key]
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    passed = [int(count) for count, _ in answers]
    assert sum(passed) == 150 and all(passed)
    assert all(30 < float(longest) <= 61 for _, longest in answers)


async def test_fronts_count_together(start_front: Front, postgres_url: str) -> None:
    _, text = new_key(postgres_url, 5)
    fronts = [await start_front(database=postgres_url) for _ in range(2)]
    headers = {"X-API-Key": text}
    responses = await asyncio.gather(*(fronts[i % 2].get("/people", headers=headers) for i in range(12)))
    assert sorted(response.status for response in responses) == [200] * 5 + [429] * 7
    waits = [int(response.headers["Retry-After"]) for response in responses if response.status == 429]
    assert all(50 < wait <= 61 for wait in waits)


def test_a_clock_that_is_set_back(postgres_url: str) -> None:
    key, _ = new_key(postgres_url, 2)
    gallery = open_gallery(postgres_url)
    hit = gallery.rates.hit
    assert (hit(key, 2), hit(key, 2)) == (None, None)
    change(postgres_url, "UPDATE recent_requests SET second = second + 30")
    wait = hit(key, 2)
    assert wait is not None and 80 < wait <= 91
    change(postgres_url, "UPDATE recent_requests SET second = second + 3600")
    assert [hit(key, 2) is None for _ in range(3)] == [True, True, False]
    gallery.close()


def test_counting_waits_for_no_writer_and_for_no_disk(postgres_url: str) -> None:
    key, _ = new_key(postgres_url, 2)
    gallery = open_gallery(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT * FROM counter FOR UPDATE")
        assert gallery.rates.hit(key, 2) is None
        kinds = connection.execute("SELECT relpersistence FROM pg_class WHERE relname = 'recent_requests'").fetchall()
    assert kinds == [("u",)]  # unlogged: the end of the transaction is not waited for
    gallery.close()


def test_the_database_goes_and_comes_back(postgres: PostgresServer, postgres_url: str) -> None:
    _, text = new_key(postgres_url, 1)
    gallery = open_gallery(postgres_url)
    access = Access(gallery.directory, False, gallery.rates)
    access.authenticate(text)
    postgres.stop()
    with pytest.raises(StorageUnavailable):
        access.authenticate(text)
    postgres.start()
    with pytest.raises(RateLimited):  # the counts are kept when it is shut down in order
        access.authenticate(text)
    postgres.kill()
    postgres.start()
    access.authenticate(text)  # and lost when it crashes
    with pytest.raises(RateLimited):
        access.authenticate(text)
    gallery.close()


def test_a_quota_holds_for_all_who_write(postgres_url: str) -> None:
    galleries = [open_gallery(postgres_url) for _ in range(2)]

    def enrol(number: int) -> bool:
        store: Store = galleries[number % 2].store
        try:
            (store.upsert if number % 4 < 2 else store.add)("t", samples([f"{number}-{i}" for i in range(3)]), 50)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(enrol, range(60)))
    assert stored.count(True) == 16  # of three each; the seventeenth would make 51
    assert [gallery.store.count("t") for gallery in galleries] == [48, 48]
    for gallery in galleries:
        gallery.close()
