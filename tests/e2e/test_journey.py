"""What a newcomer does first, over real sockets: enrol, recognise, clear."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import requests

from deploy.services import ROOT, Services

pytestmark = pytest.mark.e2e


def client(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "test_request.py"), "--url", url, *arguments], capture_output=True, text=True
    )


@pytest.fixture
def people(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / "Barack_Obama.jpg").write_bytes((photos / "obama.jpg").read_bytes())
    (folder / "Joe_Biden.jpg").write_bytes((photos / "biden.jpg").read_bytes())
    (folder / "nobody.png").write_bytes(cv2.imencode(".png", cv2.imread(str(photos / "t1.jpg"))[:50, :50])[1].tobytes())
    return folder


def test_the_example_client(url: str, people: Path, photos: Path) -> None:
    enrolled = json.loads(client(url, "enrol", str(people)).stdout)
    assert enrolled["success"] == ["Barack_Obama", "Joe_Biden"]
    assert enrolled["errors"]["nobody"]["code"] == "no_face"

    (face,) = json.loads(client(url, "recognise", str(photos / "obama3.jpg")).stdout)
    assert (face["id"], face["name"]) == ("Barack_Obama", "Barack Obama")

    unknown = json.loads(client(url, "recognise", str(photos / "t1.jpg"), "--unknown").stdout)
    assert [face["name"] for face in unknown] == [""] * 6

    assert "removed" in client(url, "clear").stdout
    assert json.loads(client(url, "recognise", str(photos / "obama3.jpg")).stdout) == []


def test_the_example_client_says_what_is_wrong(url: str, tmp_path: Path, unused_tcp_port: int) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    refused = client(url, "recognise", str(text))
    assert refused.returncode and refused.stderr.startswith("415: The image is not a JPEG")
    alone = client(f"http://127.0.0.1:{unused_tcp_port}", "clear")
    assert alone.returncode and "make run" in alone.stderr


def test_the_extraction_service_answers_for_itself(services: Services) -> None:
    url = services.extraction.url
    assert requests.get(url, timeout=10).text == "Feature extraction server is running!"
    assert requests.get(f"{url}/model", timeout=10).json()["model"] == "facenet"


def test_both_logs_are_json_and_hold_no_pictures(services: Services, url: str, photos: Path) -> None:
    image = base64.b64encode((photos / "obama.jpg").read_bytes()).decode()
    identity = requests.post(f"{url}/face-recognition", json={"image": image}, timeout=60).headers["X-Request-ID"]
    for service in (services.front, services.extraction):
        lines = Path(str(service._log)).read_text().splitlines()
        records = [json.loads(line) for line in lines]
        mine = [record for record in records if record.get("request_id") == identity]
        assert {record["status"] for record in mine} == {200}
        assert max(len(line) for line in lines) < 2000


@pytest.mark.slow
def test_a_thousand_photos_in_one_batch(
    start_services: Callable[..., Services], full_photos: Path, children: Callable[[int], list[int]]
) -> None:
    small = cv2.resize(cv2.imread(str(full_photos / "obama.jpg")), None, fx=0.5, fy=0.5)
    encoded = [cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40 + i])[1].tobytes() for i in range(50)]
    images = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in encoded]
    batch = [{"id": f"{i:04}", "name": "Somebody", "image": images[i % 50]} for i in range(1000)]
    services = start_services(DETECTION_MAX_SIDE="320")
    url = services.front.url
    (worker,) = children(services.front.pid)

    def memory(field: str) -> float:
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) / 1024

    before = memory("VmRSS")
    body = json.dumps(batch).encode()
    response = requests.post(f"{url}/update-samples", data=body, timeout=600)
    answer = response.json()  # which also warns of each photo that is there under many ids
    assert (answer["success"], answer["fail"]) == ([sample["id"] for sample in batch], [])
    assert requests.get(f"{url}/readyz", timeout=10).json()["samples"] == 1000
    # The body, its parsed strings, and a handful of decoded pictures; never all thousand of them (0.7 MiB each).
    assert memory("VmHWM") - before < 3 * len(body) / (1 << 20) + 150
