"""What the command line makes of its arguments."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from face_detection.cli import main
from shared import __version__
from shared.settings import FrontSettings
from tests.running_front import running_front


@pytest.mark.parametrize("command", [["recognise"], ["verify", "-"], ["recognise", "--local"]])
@pytest.mark.parametrize("address", ["http://example.org/photo.jpg", "rtsp://camera/1"])
def test_an_address_is_not_fetched_and_the_refusal_says_what_to_do(command: list[str], address: str) -> None:
    result = CliRunner().invoke(main, [*command, address])
    assert result.exit_code == 2
    assert f"{address} is an address, and nothing is fetched" in " ".join(result.stderr.split())


def test_a_picture_that_is_written_as_text_is_marked(
    front_settings: FrontSettings, photos: Path, tmp_path: Path
) -> None:
    text, out = tmp_path / "photo.txt", tmp_path / "marked.jpg"
    text.write_bytes(b"data:image/jpeg;base64," + base64.b64encode((photos / "obama.jpg").read_bytes()))
    with running_front(front_settings) as url:
        result = CliRunner().invoke(main, ["recognise", str(text), "--draw", str(out), "--url", url])
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(out)).shape == cv2.imread(str(photos / "obama.jpg")).shape


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(main, ["--version"], prog_name="python -m face_detection")
    assert (result.exit_code, result.output) == (0, f"python -m face_detection, version {__version__}\n")
