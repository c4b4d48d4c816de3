from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.sql import SQL, Identifier

from face_detection.cli import main
from face_detection.gallery import open_gallery
from face_detection.gallery.people import Change, NewSample
from face_detection.gallery.remote.index import lock_to_apply
from face_detection.gallery.searchers import open_index
from face_detection.gallery.sqlite import migrations
from face_detection.gallery.sqlite.migrations import STEPS
from feature_extraction.embedder import Embedder
from shared.models import Metric
from shared.service_process import free_port
from shared.settings import FrontSettings
from tests.contracts.databases import DATABASES
from tests.gallery_samples import OTHER_SPACE, samples, vectors


def test_compacting_leaves_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    gallery = open_gallery(str(path))
    gallery.store.upsert("default", samples(f"person {i}" for i in range(200)))
    gallery.store.clear("default")
    result = CliRunner().invoke(main, ["compact"], env={"DATABASE": str(path)})
    assert (result.exit_code, result.output) == (0, "")
    assert b"person 1" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    gallery.close()


@pytest.mark.parametrize("database", [":memory:", "{folder}/no.db/gallery.db"])
def test_a_database_that_cannot_be_opened(tmp_path: Path, database: str) -> None:
    (tmp_path / "no.db").touch()
    result = CliRunner().invoke(main, ["compact"], env={"DATABASE": database.format(folder=tmp_path)})
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: DATABASE=") and "Traceback" not in result.output


@pytest.mark.parametrize("kind", ["sqlite file", "postgresql"])
def test_migrating_makes_the_schema_of_this_release(kind: str, request: pytest.FixtureRequest) -> None:
    database = DATABASES[kind](request)
    results = [CliRunner().invoke(main, ["migrate"], env={"DATABASE": database}) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout
    assert f"{len(STEPS)} migrations, last {STEPS[-1].__name__}." in results[0].stdout
    gallery = open_gallery(database)
    gallery.store.upsert("default", samples(["somebody"]))
    gallery.close()


def test_migrating_brings_an_older_database_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "gallery.db")
    with monkeypatch.context() as former_release:
        former_release.setattr(migrations, "STEPS", STEPS[:-2])
        open_gallery(path).close()
    assert applied(path) == [step.__name__ for step in STEPS[:-2]]
    assert CliRunner().invoke(main, ["migrate"], env={"DATABASE": path}).exit_code == 0
    assert applied(path) == [step.__name__ for step in STEPS]


def test_migrating_refuses_a_database_of_a_newer_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "gallery.db")
    open_gallery(path).close()
    monkeypatch.setattr(migrations, "STEPS", STEPS[:-1])
    result = CliRunner().invoke(main, ["migrate"], env={"DATABASE": path})
    assert (result.exit_code, "newer release" in result.stderr, result.stdout) == (1, True, "")


def applied(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY rowid")]


@pytest.fixture
def environment(postgres_url: str, extraction_url: str) -> dict[str, str]:
    return {"DATABASE": postgres_url, "SEARCH": "pgvector", "EXTRACTION_URL": extraction_url}


def test_the_index_of_the_model_that_is_served_is_made_again(
    environment: dict[str, str], postgres_url: str, facenet: Embedder
) -> None:
    space = facenet.card.space(facenet.revision)
    gallery = open_gallery(postgres_url)
    for number, vector in enumerate(vectors(30, facenet.card.dimensions)):
        gallery.store.upsert("default", [NewSample(str(number), "", None, space, vector)])
    gallery.close()
    for _ in range(2):
        result = CliRunner().invoke(main, ["rebuild-search"], env=environment)
        assert (result.exit_code, result.stdout) == (0, f"The search index of {space} has all changes up to 30.\n")
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT count(*) FROM vector_indexes").fetchall()
    assert rows == [(1,)]


def test_the_indexes_of_former_models_are_dropped(
    environment: dict[str, str], postgres_url: str, facenet: Embedder
) -> None:
    space = facenet.card.space(facenet.revision)
    gallery = open_gallery(postgres_url)
    settings = FrontSettings(database=postgres_url, search="pgvector")
    changes = [Change(1, "t", 1, OTHER_SPACE, vectors(1)[0])]
    names = []
    for former_space, metric in ((OTHER_SPACE, Metric.COSINE), (OTHER_SPACE, Metric.EUCLIDEAN)):
        index = open_index(settings, gallery, former_space, 8, metric)
        index.apply(changes, 0, 1)
        index.fresh().close()
        names.append(index.indexes.own)
        index.close()

    def drop() -> Result:
        return CliRunner().invoke(main, ["rebuild-search", "--drop-former"], env=environment)

    with gallery.locks.take(lock_to_apply(names[0])) as taken:
        assert taken
        result = drop()
    assert result.exit_code == 1
    assert result.stdout == f"Dropped the search index {names[1]}.\n"
    assert result.stderr == f"Kept the search index {names[0]}: A service is bringing it up to date.\n"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        table = connection.execute(
            "SELECT relname FROM pg_class WHERE relname ~ %s", (f"^vectors_{names[0]}_.{{16}}$",)
        )
        connection.execute(SQL("BEGIN; LOCK TABLE {}").format(Identifier(table.fetchall()[0][0])))
        result = drop()
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr == f"Kept the search index {names[0]}: The search index failed: The database is busy.\n"
        connection.execute("ROLLBACK")
        result = drop()
        assert (result.exit_code, result.output) == (0, f"Dropped the search index {names[0]}.\n")
        result = drop()
        assert (result.exit_code, result.output) == (0, f"There is no search index but that of {space}.\n")
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relname ~ '^vectors_.*' AND relkind = 'r'"
        ).fetchall()
        present = connection.execute("SELECT name, published FROM vector_indexes").fetchall()
    assert len(rows) == len(present) == 1 and present[0][1]
    gallery.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SEARCH": "memory"}, "SEARCH=memory keeps nothing"),
        ({"SEARCH": "milvus"}, "SEARCH=milvus needs SEARCH_URL"),
        ({"EXTRACTION_URL": f"http://127.0.0.1:{free_port()}"}, "extraction service"),
    ],
)
def test_what_is_missing_is_said(environment: dict[str, str], changes: dict[str, str], message: str) -> None:
    result = CliRunner().invoke(main, ["rebuild-search"], env=environment | changes)
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output
