"""The window of ``live --window`` on a real display, Xvfb's."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_detection.cli.service.local import LocalService
from face_detection.cli.service.protocol import Photo
from shared.settings import FrontSettings
from tests.conftest import ROOT
from tests.face_detection.cli.test_live import fitted
from tests.network_camera import NetworkCamera

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("_tkinter") is None, reason="this Python was built without Tk"),
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb: apt-get install xvfb"),
]

SIZE = (480, 360)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A display of this module's own."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb does not start"
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture
def service(front_settings: FrontSettings, photos: Path) -> Iterator[LocalService]:
    """Knows Obama."""
    service = LocalService(front_settings, "default")
    service.prepare()
    service.enrol([Photo("44", "Barack Obama", (photos / "obama.jpg").read_bytes())])
    yield service
    service.close()


@pytest.fixture
def film(photos: Path, tmp_path: Path) -> Callable[[str | None], Path]:
    """A minute of a photo, or of gray."""

    def make(name: str | None) -> Path:
        path = tmp_path / f"{name}.avi"
        gray = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
        picture = gray if name is None else fitted(photos / name, SIZE)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, SIZE)
        for _ in range(300):
            writer.write(picture)
        writer.release()
        return path

    return make


@pytest.fixture
def run(
    display: str, service: LocalService, front_settings: FrontSettings
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a module in a process that sees the display and the gallery."""
    environment = os.environ | {
        "DISPLAY": display,
        "DATABASE": front_settings.database,
        "DEEPFACE_HOME": str(front_settings.deepface_home),
        "EXTRACTION_URL": front_settings.extraction_url,
    }

    def start(module: str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        changed = environment | settings
        return subprocess.run(command, cwd=ROOT, env=changed, capture_output=True, text=True, timeout=120)

    return start


@pytest.mark.parametrize(
    ("name", "headline", "expected"),
    [
        ("obama2.jpg", r"Barack Obama \(\d\.\d+\)", ["44"]),
        ("biden.jpg", "Not recognised", [None]),
        (None, "No face", []),
    ],
)
def test_space_takes_a_photo_and_compares_it(
    name: str | None,
    headline: str,
    expected: list[str | None],
    run: Callable[..., subprocess.CompletedProcess[str]],
    film: Callable[[str | None], Path],
) -> None:
    done = run("tests.face_detection.cli.video.window_driver", film(name))
    assert (done.returncode, done.stderr) == (0, "")
    photo, report = done.stdout.splitlines()
    assert re.fullmatch(f"photo: {headline}", photo)
    found = json.loads(report)
    assert found["headlines"][:2] == ["Space: take a photo    Q: quit", "Comparing ..."]
    assert len(found["headlines"]) == 3 and re.fullmatch(headline, found["headlines"][2])
    assert [ids for ids, _ in found["told"][:2]] == [expected, expected] and found["told"][0][1] < found["told"][1][1]
    # The box of somebody known is drawn into the moving picture and into the photo.
    assert [count > 300 for count in found["boxes"]] == [name == "obama2.jpg"] * 2
    assert found["freed"]


def test_a_failure_is_shown_and_the_window_stays(
    run: Callable[..., subprocess.CompletedProcess[str]], film: Callable[[str | None], Path]
) -> None:
    done = run("tests.face_detection.cli.video.window_driver", film("obama2.jpg"), "http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["headlines"] == [
        "Space: take a photo    Q: quit",
        "The extraction service cannot be reached.",
    ]


def test_the_end_of_the_film_closes_the_window(
    run: Callable[..., subprocess.CompletedProcess[str]], photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE)
    for _ in range(30):
        writer.write(fitted(photos / "obama.jpg", SIZE))
    writer.release()
    done = run("face_detection", "live", path, "--local", "--window")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("Barack Obama comes.*\n.*Barack Obama leaves", done.stdout)


def test_without_a_display(
    run: Callable[..., subprocess.CompletedProcess[str]], film: Callable[[str | None], Path]
) -> None:
    for display, reason in (("", "There is no display"), (":12345", "No window can be opened")):
        done = run("face_detection", "live", film(None), "--local", "--window", DISPLAY=display, WAYLAND_DISPLAY="")
        assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(f"Error: {reason}"), done.stderr


def test_the_command_opens_the_window(
    display: str, service: LocalService, front_settings: FrontSettings, film: Callable[[str | None], Path]
) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("needs xdotool to press keys: apt-get install xdotool")
    environment = os.environ | {
        "DISPLAY": display,
        "DATABASE": front_settings.database,
        "DEEPFACE_HOME": str(front_settings.deepface_home),
        "EXTRACTION_URL": front_settings.extraction_url,
    }
    command = [sys.executable, "-m", "face_detection", "live", str(film("obama2.jpg")), "--local", "--window"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert re.search(r"Barack Obama comes", process.stdout.readline().decode())
    subprocess.run(["xdotool", "key", "space"], env=environment, check=True)
    assert re.fullmatch(r"photo: Barack Obama \(\d\.\d+\)\n", process.stdout.readline().decode())
    subprocess.run(["xdotool", "key", "q"], env=environment, check=True)
    rest, complaints = process.communicate(timeout=30)
    assert "Barack Obama leaves" in rest.decode() and complaints == b"" and process.returncode == 0


def test_a_camera_that_is_lost_and_back(
    display: str, service: LocalService, front_settings: FrontSettings, photos: Path
) -> None:
    environment = os.environ | {
        "DISPLAY": display,
        "DATABASE": front_settings.database,
        "DEEPFACE_HOME": str(front_settings.deepface_home),
        "EXTRACTION_URL": front_settings.extraction_url,
    }
    picture = cv2.imencode(".jpg", fitted(photos / "obama2.jpg", SIZE))[1].tobytes()
    with NetworkCamera([picture]) as camera:
        command = [sys.executable, "-m", "face_detection", "live", camera.url, "--local", "--window", "--patience", "5"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert "Barack Obama comes" in process.stdout.readline()
                camera.mode = "refuse"
                assert "the camera is lost" in process.stdout.readline()
                assert "Barack Obama leaves" in process.stdout.readline()
                camera.mode = "ok"
                assert "the camera is back" in process.stdout.readline()
                assert "Barack Obama comes" in process.stdout.readline()
            finally:
                process.terminate()
