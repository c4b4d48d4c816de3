from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from face_detection.cli import main
from face_detection.gallery import open_gallery
from tests.gallery_samples import samples


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
