from __future__ import annotations

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.sql import SQL, Identifier

from face_detection.cli import main
from face_detection.gallery import open_gallery
from face_detection.gallery.people import Change, NewSample
from face_detection.gallery.remote.index import lock_to_apply
from face_detection.gallery.searchers import open_index
from feature_extraction.embedder import Embedder
from shared.models import Metric
from shared.service_process import free_port
from shared.settings import FrontSettings
from tests.gallery_samples import OTHER_SPACE, vectors


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
