"""Videos and cameras on the command line: who is seen when, who comes and who leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from face_detection.cli import main
from face_detection.cli.service.protocol import Seen
from face_detection.cli.video.frames import Camera, Video
from face_detection.cli.video.presence import Presence
from shared.errors import InvalidRequest
from shared.geometry import Box
from shared.settings import FrontSettings
from tests.conftest import ROOT
from tests.network_camera import NetworkCamera

pytestmark = pytest.mark.processes

RATE = 10
BOX = Box(0, 0, 10, 10)

Call = Callable[..., Result]


def fitted(photo: Path, size: tuple[int, int]) -> np.ndarray:
    """The upper part of a photo at a width and height in pixels, not distorted."""
    pixels = cv2.imread(str(photo))
    high = round(pixels.shape[1] * size[1] / size[0])
    return cv2.resize(pixels[:high] if high <= pixels.shape[0] else padded(pixels, high), size)


def padded(pixels: np.ndarray, high: int) -> np.ndarray:
    return cv2.copyMakeBorder(pixels, 0, high - pixels.shape[0], 0, 0, cv2.BORDER_CONSTANT)


@pytest.fixture(scope="session")
def film(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of Obama, one of gray, one of Biden, and two of Obama again."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    size = (480, 360)
    gray = np.full((size[1], size[0], 3), 128, np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, size)
    assert writer.isOpened()
    for name, seconds in (("obama.jpg", 2), (None, 1), ("biden.jpg", 1), ("obama2.jpg", 2)):
        picture = gray if name is None else fitted(photos / name, size)
        for _ in range(seconds * RATE):
            writer.write(picture)
    writer.release()
    return path


@pytest.fixture
def call(front_settings: FrontSettings, monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path) -> Call:
    """Runs a command in this process on a gallery that has Obama."""
    monkeypatch.setenv("DATABASE", front_settings.database)
    monkeypatch.setenv("DEEPFACE_HOME", str(front_settings.deepface_home))
    monkeypatch.setenv("EXTRACTION_URL", front_settings.extraction_url)

    def invoke(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [*map(str, arguments), "--local"])
        assert result.exit_code == status, result.output
        return result

    (tmp_path / "people").mkdir()
    shutil.copy(photos / "obama3.jpg", tmp_path / "people" / "Barack_Obama.jpg")
    invoke("enrol", tmp_path / "people")
    return invoke


def seen(*ids: str | None, distance: float | None = 5.0) -> list[Seen]:
    return [Seen(BOX, id, id, distance, 9.0, None, None, False) for id in ids]


def test_who_is_seen_when_in_a_video(call: Call, film: Path) -> None:
    (found,) = json.loads(call("recognise", film, "--json", "--every", "0.25").stdout)
    assert found["file"] == str(film) and found["seconds"] == pytest.approx(5.8, abs=0.3)
    stays = [(one["id"], one["from"], one["to"]) for one in found["seen"]]
    assert [one[0] for one in stays] == ["Barack_Obama", None, "Barack_Obama"]
    assert np.allclose([one[1:] for one in stays], [(0, 1.8), (3, 3.9), (4, 5.9)], atol=0.25)
    assert sum(one["frames"] for one in found["seen"]) == pytest.approx(20, abs=3)
    lines = call("recognise", film).stdout.splitlines()
    assert lines[0].split() == ["VIDEO", "FROM", "TO", "FRAMES", "NAME", "ID", "DISTANCE"] and len(lines) == 4


def test_frames_are_drawn(call: Call, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("recognise", film, "--draw", out, "--every", "2")
    assert [path.name for path in sorted((out / "film.avi").iterdir())] == [
        "000000.000.jpg",
        "000002.000.jpg",
        "000004.000.jpg",
    ]
    assert "folder" in call("recognise", film, "--draw", tmp_path / "one.jpg", status=2).stderr


def test_who_comes_and_leaves(call: Call, film: Path) -> None:
    lines = [json.loads(line) for line in call("live", film, "--json", "--patience", "0.6").stdout.splitlines()]
    assert [(one["event"], one["id"]) for one in lines] == [
        ("comes", "Barack_Obama"),
        ("leaves", "Barack_Obama"),
        ("comes", None),
        ("comes", "Barack_Obama"),
        ("leaves", None),
        ("leaves", "Barack_Obama"),
    ]
    assert [one["at"] for one in lines[:3]] == ["0:00:00.0", "0:00:01.5", "0:00:03.0"]
    text = call("live", film).stdout.splitlines()
    assert text[0].startswith("0:00:00.0  Barack Obama comes, distance ") and "unknown comes" in text[1]


def test_a_camera_that_is_lost_and_back(
    call: Call, front_settings: FrontSettings, photos: Path, tmp_path: Path
) -> None:
    """While a camera gives no frames time passes: whoever was there leaves."""
    environment = os.environ | {
        "DATABASE": front_settings.database,
        "DEEPFACE_HOME": str(front_settings.deepface_home),
        "EXTRACTION_URL": front_settings.extraction_url,
    }
    picture = cv2.imencode(".jpg", fitted(photos / "obama2.jpg", (480, 360)))[1].tobytes()
    with NetworkCamera([picture]) as camera:
        command = [sys.executable, "-m", "face_detection", "live", camera.url, "--local", "--json", "--patience", "5"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            events = (json.loads(line)["event"] for line in process.stdout)
            try:
                assert next(events) == "comes"
                camera.mode = "refuse"
                assert [next(events), next(events)] == ["camera_lost", "leaves"]
                camera.mode = "ok"
                assert [next(events), next(events)] == ["camera_back", "comes"]
            finally:
                process.send_signal(signal.SIGINT)
            assert list(events) == ["leaves"]


def test_what_is_no_video(call: Call, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    assert "It is neither a picture nor a video." in call("recognise", broken, status=1).stderr
    assert "It cannot be read as a video." in call("live", broken, status=1).stderr
    assert "cannot be opened" in call("live", "http://127.0.0.1:1/stream", status=1).stderr


def test_frames_have_their_times(film: Path) -> None:
    video = Video(film)
    assert video.duration == pytest.approx(6)
    frames = list(video.frames(0.5))
    assert [round(frame.seconds, 3) for frame in frames] == [n / 2 for n in range(12)]
    assert frames[0].pixels.shape == (360, 480, 3) and frames[0].jpeg().startswith(b"\xff\xd8\xff")
    assert len(list(Video(film).frames(0.01))) == 60


def test_a_camera_gives_the_latest_frame(film: Path) -> None:
    """A file at its own pace stands for a camera: whoever looks every second misses what was between."""
    camera = Camera(film)
    times = [frame.seconds for frame in camera.frames(1.0) if frame]
    camera.close()
    assert camera.ended and 5 <= len(times) <= 10 and np.diff(times[:-1]).min() > 0.8
    with pytest.raises(InvalidRequest):
        Camera("http://127.0.0.1:1/stream")


def test_a_camera_can_be_closed_while_somebody_waits(film: Path) -> None:
    camera = Camera(film)
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.extend(camera.frames(0.01)))
    waiter.start()
    camera.close()
    waiter.join(5)
    assert not waiter.is_alive() and camera.latest() is None


def test_presence() -> None:
    presence = Presence(patience=1.0)
    come, left = presence.see(seen("a", None, None), 0.0)
    assert [stay.id for stay in come] == ["a", None] and left == []
    come, left = presence.see(seen("a", "b", distance=4.0), 1.0)
    assert [stay.id for stay in come] == ["b"] and left == []
    gone = presence.see(seen("b"), 1.5)[1]
    come, left = presence.see(seen("b", distance=None), 2.1)
    assert come == [] and [(one.id, one.begin, one.end, one.frames, one.distance) for one in [*gone, *left]] == [
        (None, 0.0, 0.0, 1, 5.0),
        ("a", 0.0, 1.0, 2, 4.0),
    ]
    come, _ = presence.see(seen("a"), 2.2)
    assert [stay.begin for stay in come] == [2.2]
    assert {stay.id for stay in presence.leave()} == {"a", "b"} and presence.leave() == []
