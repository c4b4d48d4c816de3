from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from face_detection.gallery.sql import statements
from face_detection.gallery.sql.database import Wordings
from tests.galleries import open_store
from tests.gallery_samples import sample


def test_vectors_are_little_endian_float32_and_names_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    store = open_store(str(path))
    store.upsert("t", [sample("a", np.array([1.0, -2.5], np.float32), name="Ada", metadata={"ü": 1})])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, metadata, vector FROM people JOIN samples ON person = people.key"
        ).fetchall()
    assert rows == [("Ada", r'{"\u00fc":1}', bytes.fromhex("0000803f 000020c0"))]


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        ("GET", "SEARCH people USING INDEX sqlite_autoindex_people_1 (tenant=? AND id=?)"),
        ("PAGE", "SEARCH people USING INDEX people_search (tenant=? AND id>?)"),
        ("PAGE_OF_TEXT", "SEARCH people USING COVERING INDEX people_search (tenant=? AND id>?)"),
        ("PAGE", "SEARCH own USING COVERING INDEX samples_of_person (person=?)"),
        ("SAMPLES", "SEARCH samples USING INDEX samples_of_person (person=? AND number>?)"),
        ("BY_KEYS", "SEARCH samples USING INTEGER PRIMARY KEY (rowid=?)"),
        ("BY_NUMBER", "SEARCH samples USING INDEX sqlite_autoindex_samples_2 (tenant=? AND number=?)"),
        ("BY_NUMBERS", "SEARCH samples USING INDEX sqlite_autoindex_samples_2 (tenant=? AND number=?)"),
        ("COUNT", "SEARCH samples USING COVERING INDEX samples_present (tenant=? AND space>?)"),
        ("COUNT_SPACE", "SEARCH samples USING COVERING INDEX samples_present (tenant=? AND space=?)"),
        ("LAST_CHANGE", "SEARCH samples USING COVERING INDEX sqlite_autoindex_samples_1"),
        ("LAST", "SEARCH samples USING COVERING INDEX sqlite_autoindex_samples_2 (tenant=?)"),
        ("LAST_REVISION", "SEARCH samples USING COVERING INDEX sqlite_autoindex_samples_3 (tenant=?)"),
        ("CHANGES", "SEARCH samples USING INDEX sqlite_autoindex_samples_1 (change>?)"),
        ("FEED", "SEARCH samples USING INDEX sqlite_autoindex_samples_3 (tenant=? AND revision>?)"),
        ("BURY_KEYS", "SEARCH samples USING INTEGER PRIMARY KEY (rowid=?)"),
        ("TOUCH_KEYS", "SEARCH samples USING INTEGER PRIMARY KEY (rowid=?)"),
        ("DELETE_EVENTS", "SEARCH events USING INDEX events_of_person (person=?)"),
    ],
)
def test_every_query_uses_an_index(tmp_path: Path, statement: str, plan: str) -> None:
    path = tmp_path / "gallery.db"
    open_store(str(path)).close()
    wordings: str | Wordings = getattr(statements, statement)
    sql = wordings if isinstance(wordings, str) else wordings["sqlite"]
    values = dict.fromkeys(re.findall(r":(\w+)", sql), "x")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    steps = [row[3] for row in rows]
    assert plan in steps
    assert not any("TEMP B-TREE" in step for step in steps)
