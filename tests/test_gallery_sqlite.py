from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from face_detection.gallery import open_store, sqlite
from tests.gallery_samples import sample


def test_vectors_are_little_endian_float32_and_names_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    store = open_store(str(path))
    store.upsert("t", [sample("a", np.array([1.0, -2.5], np.float32), name="Ada", metadata={"ü": 1})])
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, metadata, vector FROM samples").fetchall()
    assert rows == [("Ada", r'{"\u00fc":1}', bytes.fromhex("0000803f 000020c0"))]


@pytest.mark.parametrize(
    ("statement", "plan"),
    [
        ("_GET", "SEARCH samples USING INDEX sqlite_autoindex_samples_2 (tenant=? AND id=?)"),
        ("_BY_KEYS", "SEARCH samples USING INTEGER PRIMARY KEY (rowid=?)"),
        ("_PAGE", "SEARCH samples USING INDEX samples_present (tenant=? AND id>?)"),
        ("_COUNT", "SEARCH samples USING COVERING INDEX samples_present (tenant=?)"),
        ("_COUNT_SPACE", "SEARCH samples USING COVERING INDEX samples_present (tenant=?)"),
        ("_LAST_CHANGE", "SEARCH samples USING COVERING INDEX sqlite_autoindex_samples_1"),
        ("_CHANGES", "SEARCH samples USING INDEX sqlite_autoindex_samples_1 (change>?)"),
    ],
)
def test_every_query_uses_an_index(tmp_path: Path, statement: str, plan: str) -> None:
    path = tmp_path / "gallery.db"
    open_store(str(path)).close()
    sql: str = getattr(sqlite, statement)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("[]",) * sql.count("?")).fetchall()
    steps = [row[3] for row in rows]
    assert plan in steps
    assert not any("TEMP B-TREE" in step for step in steps)
