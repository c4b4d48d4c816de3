"""doctor: what is well, what is broken, and what to do about it."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from deploy.servers.waiting import wait_until
from face_detection.access import Access
from face_detection.cli import main
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import Right
from feature_extraction.embedder import open_embedder
from shared.models import YUNET, weights_folder
from shared.service_process import free_port
from shared.settings import ExtractionSettings, FrontSettings
from tests.conftest import ServeExtraction
from tests.gallery_samples import OTHER_SPACE, sample
from tests.running_front import running_front

pytestmark = pytest.mark.processes

Findings = dict[str, dict[str, str]]
Examine = Callable[..., Findings]


@pytest.fixture
def examine(front_settings: FrontSettings, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """The findings by what was looked at; ``status`` is the exit code, and capitals are settings."""
    for name in ("FACE_URL", "FACE_API_KEY", "MODEL", "EXECUTION_PROVIDERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE", front_settings.database)
    monkeypatch.setenv("DEEPFACE_HOME", str(front_settings.deepface_home))
    monkeypatch.setenv("EXTRACTION_URL", front_settings.extraction_url)
    monkeypatch.setenv("EXTRACTION_BIND", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("FRONT_BIND", f"127.0.0.1:{free_port()}")

    def run(*arguments: str, status: int = 0, **settings: str) -> Findings:
        result = CliRunner().invoke(main, ["doctor", "--json", *arguments], env=settings)
        assert result.exit_code == status, result.output
        found = {one["what"]: one for one in json.loads(result.stdout)}
        assert all(one["advice"] for one in found.values() if one["state"] == "broken" and "service" not in one["what"])
        assert any(one["state"] == "broken" for one in found.values()) == bool(status)
        return found

    return run


def test_all_is_well(examine: Examine, front_settings: FrontSettings) -> None:
    with running_front(front_settings) as url:
        found = examine("--url", url, FRONT_BIND=url.removeprefix("http://"))
        assert found[f"service at {url}"]["found"] == "ready: facenet, threshold 9.0, 0 photos"
        assert found["port of the front"]["found"].endswith("is in use, by the service")
    assert found[f"extraction service at {front_settings.extraction_url}"]["found"].startswith("ready: facenet on onnx")
    assert found["the detector's weights"]["found"] == f"{YUNET.file} present"
    assert "facenet_weights.onnx converted" in found["the model's weights"]["found"]
    assert found["database"]["found"] == f"{front_settings.database} has 0 photos"
    assert {one["state"] for one in found.values()} <= {"ok", "note"}


def test_the_text_says_what_to_do(examine: Examine) -> None:
    result = CliRunner().invoke(main, ["doctor"], env={"DATABASE": "README.md"})
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (number,) = [number for number, line in enumerate(lines) if line.startswith("BROKEN  database: DATABASE=README.md")]
    assert lines[number + 1].startswith("        Stop the service and restore the database from a copy")


def test_a_service_that_must_run(examine: Examine, extraction_url: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert "Nothing answers" in examine("--url", url, status=1)[f"service at {url}"]["found"]
    assert examine(FACE_URL=url, status=1)[f"service at {url}"]["state"] == "broken"
    assert examine(EXTRACTION_URL=url)[f"extraction service at {url}"]["state"] == "note"
    assert examine("--url", extraction_url, status=1)[f"service at {extraction_url}"]["state"] == "broken"
    assert examine("--url", "nowhere", status=1)["service at nowhere"]["state"] == "broken"


def test_every_worker_is_examined(
    examine: Examine, extraction_url: str, serve_extraction: ServeExtraction, deepface_home: Path
) -> None:
    settings = ExtractionSettings(deepface_home=deepface_home, model="dlib")
    other = serve_extraction(settings, open_embedder(settings))
    nobody = f"http://127.0.0.1:{free_port()}"
    found = examine(EXTRACTION_URL=f"{extraction_url}, {nobody}")
    assert found[f"extraction service at {extraction_url}"]["state"] == "ok"
    assert found[f"extraction service at {nobody}"]["state"] == "note"
    found = examine(EXTRACTION_URL=f"{extraction_url},{other}")
    for url, model in ((extraction_url, "facenet"), (other, "dlib")):
        one = found[f"extraction service at {url}"]
        assert one["state"] == "note" and f"this is {model}/" in one["found"] and "same MODEL" in one["advice"]


def test_a_front_that_has_lost_its_extraction_service(examine: Examine, front_settings: FrontSettings) -> None:
    broken = front_settings.model_copy(update={"extraction_url": f"http://127.0.0.1:{free_port()}"})
    with running_front(broken) as url:
        found = examine("--url", url, status=1)
        assert found[f"service at {url}"]["found"] == "The extraction service cannot be reached."


def test_keys(examine: Examine, front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    _, key = Access(gallery.directory, False).create_key("default", "door", [Right.RECOGNISE])
    gallery.close()
    with running_front(front_settings) as url:
        service = f"service at {url}"
        assert examine("--url", url)[service]["found"] == "ready, but wants an API key"
        assert examine("--url", url, FACE_API_KEY="wrong")[service]["found"] == "refuses the key"
        assert examine("--url", url, FACE_API_KEY=key)[service]["found"].endswith("0 photos")


def test_ports(examine: Examine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        found = examine(FRONT_BIND=bind, status=1)["port of the front"]
        assert found["state"] == "broken" and bind in found["found"] and "FRONT_BIND" in found["advice"]
        found = examine(EXTRACTION_BIND=bind, EXTRACTION_URL="http://127.0.0.1:1", status=1)
        assert "EXTRACTION_BIND" in found["port of the extraction service"]["advice"]


def test_settings_weights_and_runtime(examine: Examine, tmp_path: Path, detector_home: Path) -> None:
    assert set(examine(MAX_FACES="many", status=1)) == {"settings"}
    absent = examine(MODEL="arcface")["the model's weights"]
    assert (absent["state"], absent["found"]) == ("note", "arcface_weights.onnx absent") and "arcface" in absent[
        "advice"
    ]
    weights_folder(tmp_path).mkdir(parents=True)
    detector = weights_folder(tmp_path) / YUNET.file
    shutil.copy(weights_folder(detector_home) / YUNET.file, detector)
    with detector.open("r+b") as file:
        file.write(b"damaged")
    damaged = examine(DEEPFACE_HOME=str(tmp_path), status=1)["the detector's weights"]
    assert damaged["found"] == f"{YUNET.file} damaged" and "fetch yunet" in damaged["advice"]
    lacking = examine(EXECUTION_PROVIDERS="cuda", status=1)["runtime of the model"]
    assert "wants cuda" in lacking["found"] and "requirements-gpu.txt" in lacking["advice"]


def test_databases(examine: Examine, tmp_path: Path) -> None:
    new = tmp_path / "new" / "gallery.db"
    assert examine(DATABASE=str(new))["database"]["found"] == f"{new} will be made"
    assert not new.parent.exists()
    assert examine(DATABASE=":memory:")["database"]["state"] == "note"
    assert examine(DATABASE="README.md", status=1)["database"]["state"] == "broken"


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are moved, since no test can fill a disk."""
    module = import_module("face_detection.cli.doctor")  # its command has the same name
    free = shutil.disk_usage(tmp_path).free
    deep = tmp_path / "a" / "b"
    assert module._disk("disk", deep).state == "ok" and str(tmp_path) in module._disk("disk", deep).found
    monkeypatch.setattr(module, "_LITTLE", 2 * free)
    assert module._disk("disk", deep).state == "note"
    monkeypatch.setattr(module, "_TOO_LITTLE", 2 * free)
    assert module._disk("disk", deep).state == "BROKEN"


def test_people_of_another_model_are_counted(
    examine: Examine, front_settings: FrontSettings, caplog: pytest.LogCaptureFixture
) -> None:
    gallery = open_gallery(front_settings.database)
    gallery.store.add("default", [sample("a", space=OTHER_SPACE), sample("b", space=OTHER_SPACE)])
    gallery.close()
    with running_front(front_settings) as url:
        found = examine("--url", url, FRONT_BIND=url.removeprefix("http://"))[f"service at {url}"]
        wait_until(lambda: "2 people of company default have no photo" in caplog.text)
    assert (found["state"], found["found"].rpartition("; ")[2]) == ("note", "2 people have no photo of this model")


def test_photos_that_contradict_others_are_listed(examine: Examine, front_settings: FrontSettings) -> None:
    assert examine("--gallery")["photos against each other"]["found"] == "none contradicts another"
    one, other = np.eye(8, dtype=np.float32)[:2]
    with closing(open_gallery(front_settings.database)) as gallery:
        gallery.store.add("default", [sample("ann", one), sample("ann", one + other / 9), sample("ann", other)])
        gallery.store.add("default", [sample("joe", other * 2)])
        (*_, mistaken), (joe,) = (gallery.store.samples("default", id) for id in ("ann", "joe"))
    found = examine("--gallery")
    listed = found[f"photo {mistaken.number} of 'ann' in company default"]
    assert listed["state"] == "note" and f"photo {joe.number} of 'joe' (name of joe): distance 0" in listed["found"]
    assert "photos against each other" not in found
    assert [what for what in found if what.startswith("photo ")] == [
        f"photo {number} of '{id}' in company default" for id, number in (("ann", mistaken.number), ("joe", joe.number))
    ]
