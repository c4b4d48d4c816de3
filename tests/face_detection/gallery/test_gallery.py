"""Threads for the gallery: who writes is waited for by nobody who reads."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Front
from tests.contracts.databases import DATABASES


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Another process's transaction that nobody who writes gets past."""
    if "://" in database:
        with psycopg.connect(database) as connection:
            connection.execute("SELECT change FROM counter FOR UPDATE")
            yield
        return
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
@pytest.mark.parametrize("writers", [8, 64])
async def test_searches_do_not_wait_for_those_who_write(
    kind: str,
    writers: int,
    start_front: Front,
    photos: Path,
    data_uri: Callable[[Path | bytes], str],
    request: pytest.FixtureRequest,
) -> None:
    database = DATABASES[kind](request)
    front = await start_front(database=database, max_pending_requests=4 * writers)
    await front.post("/companies", json={"company": "1042", "name": "Acme"})
    key = (await (await front.post("/companies/default/keys", json={"name": "k", "rights": ["admin"]})).json())["key"]
    headers = {"X-API-Key": key}
    person = {"id": "44", "name": "Barack", "image": data_uri(photos / "obama.jpg")}
    await front.post("/update-samples", json=[person], headers=headers)
    other = itertools.count()  # what changes nothing is not written
    writes = [
        lambda: front.patch("/people/44", json={"metadata": next(other)}, headers=headers),
        lambda: front.put("/companies/1042/sectors/1", json={"name": "Hall"}, headers=headers),
        lambda: front.patch("/companies/1042", json={"name": "Acme"}, headers=headers),
        lambda: front.delete("/people/nobody", headers=headers),
    ]
    with locked(database):
        waiting = [asyncio.create_task(writes[number % len(writes)]()) for number in range(writers)]
        for _ in range(10):
            found = await front.post(
                "/face-recognition", json={"image": data_uri(photos / "obama2.jpg")}, headers=headers
            )
            assert [face["name"] for face in await found.json()] == ["Barack"]
            for path in ("/people/44", "/companies/1042", "/readyz"):
                assert (await front.get(path, headers=headers)).status == 200
        assert not any(task.done() for task in waiting)
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {200, 404}
