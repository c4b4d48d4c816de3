"""calibrate: a curve of one's own photos, with a service and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from face_detection.cli import calibrate as command
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import Calibration
from shared.models import find_card
from shared.settings import FrontSettings
from tests.face_detection.cli.conftest import Call

pytestmark = pytest.mark.processes


def stored(settings: FrontSettings) -> Calibration | None:
    gallery = open_gallery(settings.database)
    try:
        return gallery.directory.tenant("default").settings.calibration
    finally:
        gallery.close()


def test_too_few_photos_are_refused_with_how_many_it_takes(
    call: Call, photos: Path, tmp_path: Path, front_settings: FrontSettings
) -> None:
    folder = tmp_path / "people"
    (folder / "barack").mkdir(parents=True)
    for name in ("obama.jpg", "obama2.jpg"):
        shutil.copy(photos / name, folder / "barack" / name)
    shutil.copy(photos / "biden.jpg", folder / "joe.jpg")
    refused = call("calibrate", folder, status=1).stderr
    assert "3 photos of 2 people make 2 pairs of different people and 1 of one person; it takes 20 people" in refused
    assert stored(front_settings) is None
    for path in folder.rglob("*.jpg"):
        path.unlink()
    assert "0 photos of 0 people" in call("calibrate", folder, status=1).stderr


def test_what_is_measured(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Give a FOLDER" in call("calibrate", status=2).stderr
    assert "Give a FOLDER" in call("calibrate", tmp_path, "--reset", status=2).stderr
    monkeypatch.setattr(command, "MOST_PHOTOS", 0)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 begins like a picture")
    assert "0 at most" in call("calibrate", tmp_path, status=1).stderr


def test_the_curve_of_own_photos_counts(
    call: Call, faces: Path, tmp_path: Path, front_settings: FrontSettings, photos: Path
) -> None:
    folder = tmp_path / "people"
    for person in (faces / "lfw_known").iterdir():
        (folder / person.name).mkdir(parents=True)
        for photo in sorted(person.iterdir())[:4]:
            shutil.copy(photo, folder / person.name)
    (folder / "no_face.jpg").write_bytes((next((faces / "noface").iterdir())).read_bytes())
    many = [*folder.rglob("*.jpg")]
    result = call("calibrate", folder, status=1)
    assert f"1 of {len(many)} photos could not be used" in result.stderr
    assert "no_face.jpg: There is no face in the image." in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "FALSE MATCH RATE" and lines[1].split()[0] == "0.1"
    compared = "verify", photos / "obama.jpg", photos / "obama3.jpg", "--false-match-rate", 0.01, "--json"
    own = stored(front_settings)
    assert own is not None and own.metric == "tenfold-unit-euclidean" and own.space.startswith("facenet/")
    assert (own.curve.people, own.curve.impostor_pairs, own.curve.genuine_pairs) == (20, 3040, 120)
    card = find_card("facenet")
    theirs = card.curve(card.metric)
    assert theirs is not None and 0.8 < own.curve.distance(1e-2) / theirs.distance(1e-2) < 1.2
    said = json.loads(call(*compared).stdout)
    assert said["threshold"] == pytest.approx(own.curve.distance(0.01)) != theirs.distance(0.01)
    assert call("calibrate", "--reset").stdout == "The curve of the model counts again.\n"
    assert stored(front_settings) is None
    said = json.loads(call(*compared).stdout)
    assert said["threshold"] == pytest.approx(theirs.distance(0.01))
