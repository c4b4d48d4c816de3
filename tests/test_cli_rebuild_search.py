from __future__ import annotations

import psycopg
import pytest
from click.testing import CliRunner

from deploy.services import free_port
from face_detection.cli import main
from face_detection.gallery import open_gallery
from face_detection.gallery.store import NewSample
from feature_extraction.embedder import Embedder
from tests.gallery_samples import vectors


@pytest.fixture
def environment(postgres_url: str, extraction_url: str) -> dict[str, str]:
    return {"DATABASE": postgres_url, "SEARCH": "pgvector", "EXTRACTION_URL": extraction_url}


def test_the_index_of_the_model_that_is_served_is_made_again(
    environment: dict[str, str], postgres_url: str, facenet: Embedder
) -> None:
    space = facenet.card.space(facenet.revision)
    gallery = open_gallery(postgres_url)
    for number, vector in enumerate(vectors(30, facenet.card.dimensions)):
        gallery.store.upsert("t", [NewSample(str(number), "", None, space, vector)])
    gallery.close()
    for _ in range(2):
        result = CliRunner().invoke(main, ["rebuild-search"], env=environment)
        assert (result.exit_code, result.stdout) == (0, f"The search index of {space} has all changes up to 30.\n")
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT count(*) FROM vector_indexes").fetchall()
    assert rows == [(1,)]


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
