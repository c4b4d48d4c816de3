"""A client that follows the data set and matches without the service's gallery, over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests

from deploy.services import ROOT, Services
from face_detection.gallery import open_gallery
from tests.galleries import remove_tombstones

pytestmark = pytest.mark.e2e

Start = Callable[..., Services]

SCRIPT = ROOT / "docs" / "examples" / "dataset.py"


def client(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--url", url, "--copy", str(folder / "faces.json"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def create(url: str, photo: Path, **unique_args: object) -> int:
    with photo.open("rb") as file:
        data = {"unique-args": json.dumps(unique_args)}
        response = requests.post(f"{url}/face", data=data, files={"image": file}, timeout=60)
    assert response.status_code == 200, response.text
    return int(response.json()["face_id"])


def test_a_copy_matches_as_the_service_does(url: str, photos: Path, tmp_path: Path) -> None:
    alone = client(url, tmp_path, "match", str(photos / "obama2.jpg"), "--local")
    assert alone.returncode and "follow first" in alone.stderr

    obama, biden = create(url, photos / "obama.jpg", name="Barack"), create(url, photos / "biden.jpg", name="Joe")
    assert "2 faces" in client(url, tmp_path, "follow").stdout
    expected = {
        "obama2.jpg": f'{obama} {{"name": "Barack"}}\n',
        "biden.jpg": f'{biden} {{"name": "Joe"}}\n',
        "t1.jpg": "None null\n" * 6,
    }
    for photo, printed in expected.items():
        for where in ((), ("--local",)):
            assert client(url, tmp_path, "match", str(photos / photo), *where).stdout == printed

    requests.post(f"{url}/face/delete", data={"face_id": obama}, timeout=10).raise_for_status()
    args = {"face_id": biden, "unique_args": json.dumps({"name": "Joseph"})}
    requests.post(f"{url}/face/update", data=args, timeout=10).raise_for_status()
    local = client(url, tmp_path, "match", str(photos / "obama2.jpg"), "--local").stdout
    assert local == expected["obama2.jpg"], "the copy is as old as it is"
    assert "1 faces" in client(url, tmp_path, "follow").stdout
    assert client(url, tmp_path, "match", str(photos / "obama2.jpg"), "--local").stdout == "None null\n"
    assert "Joseph" in client(url, tmp_path, "match", str(photos / "biden.jpg"), "--local").stdout


def test_a_copy_of_another_model_is_thrown_away(url: str, photos: Path, tmp_path: Path) -> None:
    create(url, photos / "obama.jpg", name="Barack")
    former = {"space": "other/1", "cursor": "2100-01-01T00:00:00.000000Z", "faces": {"77": {}}}
    (tmp_path / "faces.json").write_text(json.dumps(former))
    assert "1 faces" in client(url, tmp_path, "follow").stdout
    assert list(json.loads((tmp_path / "faces.json").read_text())["faces"]) != ["77"]


def test_a_copy_that_comes_too_late_starts_over(start_services: Start, photos: Path, tmp_path: Path) -> None:
    database = str(tmp_path / "gallery.db")
    url = start_services(DATABASE=database).front.url
    obama, biden = create(url, photos / "obama.jpg", name="Barack"), create(url, photos / "biden.jpg", name="Joe")
    assert "2 faces" in client(url, tmp_path, "follow").stdout
    cursor = json.loads((tmp_path / "faces.json").read_text())["cursor"]
    requests.post(f"{url}/face/delete", data={"face_id": obama}, timeout=10).raise_for_status()
    create(url, photos / "obama3.jpg", name="Hussein")
    with closing(open_gallery(database)) as gallery:
        remove_tombstones(gallery)
    refused = requests.get(f"{url}/faces/sync", params={"last_updated_at": cursor}, timeout=10)
    assert (refused.status_code, refused.json()["error_type"]) == (410, 211)
    assert "2 faces" in client(url, tmp_path, "follow").stdout
    assert list(json.loads((tmp_path / "faces.json").read_text())["faces"]) == [str(biden), "3"]
    assert client(url, tmp_path, "match", str(photos / "obama2.jpg"), "--local").stdout == '3 {"name": "Hussein"}\n'


def test_the_client_says_what_is_wrong(url: str, tmp_path: Path) -> None:
    refused = client(url, tmp_path, "match", str(SCRIPT))
    assert refused.returncode and refused.stderr.startswith("415: ") and '"error_type":303' in refused.stderr
