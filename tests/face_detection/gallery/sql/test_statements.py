"""The SQL that every database is spoken to with."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from face_detection.gallery import events, open_gallery
from face_detection.gallery.events import page_statement
from face_detection.gallery.postgres.session import pyformat
from face_detection.gallery.sql import answers, directory
from face_detection.gallery.sql import statements as store_statements

INDEXES = {
    directory.TENANT: ("sqlite_autoindex_tenants_1 (id=?)", "tenants_pkey"),
    directory.KEY: ("sqlite_autoindex_keys_1 (id=?)", "keys_pkey"),
    directory.SECTORS: ("sqlite_autoindex_sectors_1 (tenant=?)", "sectors_pkey"),
    directory.DEVICE: ("sqlite_autoindex_devices_1 (tenant=? AND code=?)", "devices_pkey"),
    directory.HAS_PEOPLE: ("sqlite_autoindex_people_1 (tenant=?)", "people_tenant_id_key"),
    events.ADD: ("sqlite_autoindex_last_numbers_1 (tenant=?)", "last_numbers_pkey"),
    page_statement(()): ("sqlite_autoindex_events_1 (tenant=? AND number<?)", "events_pkey"),
    page_statement({"until"}): ("sqlite_autoindex_events_1 (tenant=? AND number<?)", "events_pkey"),
    page_statement({"since"}): ("events_at (tenant=? AND at>?)", "events_at"),
    page_statement({"since", "until"}): ("events_at (tenant=? AND at>? AND at<?)", "events_at"),
    page_statement({"person"}): ("events_of_person (person=? AND number<?)", "events_of_person"),
    page_statement({"person", "since", "until"}): ("events_of_person (person=? AND number<?)", "events_of_person"),
    page_statement({"device"}): ("events_of_device (tenant=? AND device=? AND number<?)", "events_of_device"),
    page_statement({"kind"}): ("events_of_kind (tenant=? AND kind=? AND number<?)", "events_of_kind"),
    answers.FIND: ("sqlite_autoindex_answers_1 (key=?)", "answers_pkey"),
    answers.EMPTY_OF_PERSON: ("sqlite_autoindex_answers_about_1 (person=?)", "answers_about_pkey"),
    answers.PURGE[1]: ("answers_at (at<?)", "answers_at"),
    events.CROP: ("sqlite_autoindex_events_1 (tenant=? AND number=?)", "events_pkey"),
    events.PURGE: ("events_at (tenant=? AND at<?)", "events_at"),
}


def statements() -> Iterator[str]:
    for module in (answers, directory, events, store_statements):
        for name, value in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(value, str | tuple):
                yield from [value] if isinstance(value, str) else value


def values_of(statement: str) -> dict[str, object]:
    numbers = {"after", "at", "before", "code", "device", "limit", "number", "sector", "since", "status", "until"}
    return {name: 7 if name in numbers else "7" for name in re.findall(r":(\w+)", statement)}


def test_parameters_in_both_forms() -> None:
    assert pyformat("SELECT :a, :a_b WHERE x::text = :c AND y LIKE 'a%'") == (
        "SELECT %(a)s, %(a_b)s WHERE x::text = %(c)s AND y LIKE 'a%%'"
    )
    assert pyformat("SELECT 1") == "SELECT 1"


def test_nothing_but_parameters_is_translated() -> None:
    checked = 0
    for statement in statements():
        assert ":" not in pyformat(statement)
        assert re.sub(r"%\((\w+)\)s", r":\1", pyformat(statement)) == statement
        assert not set(statement) & set("'%?")  # literals, and the placeholders of others
        checked += 1
    assert checked > 30


@pytest.mark.parametrize(("statement", "indexes"), INDEXES.items())
def test_every_query_uses_an_index(
    statement: str, indexes: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "gallery.db"
    open_gallery(str(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values_of(statement) | {"crop": None}).fetchall()
    steps = [row[3] for row in rows]
    assert any(step.endswith(f"INDEX {indexes[0]}") for step in steps), steps
    # What happened since a time is few, and found by its time: only that is sorted.
    assert "+number" in statement or not any("TEMP B-TREE" in step for step in steps)

    with psycopg.connect(request.getfixturevalue("postgres_url")) as connection:
        connection.execute("SET enable_seqscan = off")  # a small table is rather read from end to end
        values = values_of(statement) | dict.fromkeys(("crop", "distance", "latitude", "longitude"))
        rows = connection.execute(f"EXPLAIN {pyformat(statement)}".encode(), values).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert indexes[1] in plan and "Seq Scan" not in plan
