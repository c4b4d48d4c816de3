"""Commands about people, on a running service and without one: arguments, what they print, exit codes."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deploy.servers.waiting import wait_until
from face_detection.cli import main
from face_detection.cli.pictures import MOST_BYTES
from face_detection.cli.service.local import LocalService
from face_detection.cli.service.remote import RemoteService
from face_detection.gallery import open_gallery
from shared.settings import FrontSettings
from tests.face_detection.cli.conftest import Call
from tests.gallery_samples import sample, vectors
from tests.pictures import encoded, far_away
from tests.video_frames import Actor, frame_at, write_video


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """Two people, one of them with two photos, and what does not count."""
    folder = tmp_path / "people"
    (folder / "Barack_Obama").mkdir(parents=True)
    shutil.copy(photos / "obama.jpg", folder / "Barack_Obama" / "1.JPG")
    shutil.copy(photos / "obama2.jpg", folder / "Barack_Obama" / "2.jpeg")
    shutil.copy(photos / "biden.jpg", folder / "Joe_Biden.jpg")
    (folder / "empty").mkdir()
    (folder / ".hidden.jpg").write_text("nothing")
    return folder


def people(call: Call) -> dict[str, int]:
    return {one["id"]: one["photos"] for one in json.loads(call("people", "list", "--json").stdout)}


def test_a_folder_is_enrolled_and_recognised(call: Call, folder: Path, photos: Path) -> None:
    assert call("enrol", folder).stdout == "Enrolled 2 people with 3 photos.\n"
    assert people(call) == {"Barack_Obama": 2, "Joe_Biden": 1}
    lines = call("recognise", photos / "obama3.jpg", photos / "t1.jpg").stdout.splitlines()
    columns = ["FILE", "BOX", "NAME", "ID", "DISTANCE", "FALSE", "MATCH", "RATE", "MARGIN", "AMBIGUOUS"]
    assert lines[0].split() == columns and len(lines) == 8
    row = r".+obama3\.jpg +\d+, \d+, \d+, \d+  Barack Obama  Barack_Obama  \d\.\d+ +\S+e-05 +\d\.\d+ +no"
    assert re.fullmatch(row, lines[1])
    assert all(re.search(r"t1\.jpg .* -  +-  +1\d\.\d+ +- +- +-$", line) for line in lines[2:])


def test_photos_replace_or_are_added(call: Call, folder: Path) -> None:
    call("enrol", folder)
    call("enrol", folder)
    assert people(call) == {"Barack_Obama": 2, "Joe_Biden": 1}
    assert call("enrol", folder, "--add").stdout == "Enrolled 2 people with 3 photos.\n"
    assert people(call) == {"Barack_Obama": 4, "Joe_Biden": 2}
    call("enrol", folder)
    assert people(call) == {"Barack_Obama": 2, "Joe_Biden": 1}


def test_a_new_person_comes_with_all_photos_at_once(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    for service in (LocalService, RemoteService):
        enrol, add = service.enrol, service.add

        def enrolling(self: Any, photos: Any, enrol: Any = enrol) -> Any:
            calls.append(("enrol", len(photos)))
            return enrol(self, photos)

        def adding(self: Any, id: str, name: str, pictures: Any, *how: Any, add: Any = add) -> Any:
            calls.append(("add", len(pictures)))
            return add(self, id, name, pictures, *how)

        monkeypatch.setattr(service, "enrol", enrolling)
        monkeypatch.setattr(service, "add", adding)
    call("enrol", folder)
    assert calls == [("add", 2), ("enrol", 1)]
    calls.clear()
    call("enrol", folder)
    assert calls == [("enrol", 1), ("add", 1), ("enrol", 1)]


def test_files_of_one_name_are_one_person(call: Call, folder: Path, photos: Path) -> None:
    shutil.copy(photos / "obama3.jpg", folder / "Barack_Obama.jpg")
    call("enrol", folder)
    assert people(call) == {"Barack_Obama": 3, "Joe_Biden": 1}


def test_bad_photos_are_named(call: Call, folder: Path, photos: Path) -> None:
    (folder / "Barack_Obama" / "0.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "Nobody.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    shutil.copy(photos / "t1.jpg", folder / "Group.jpg")
    result = call("enrol", folder, status=1)
    assert result.stdout == "Enrolled 3 people with 4 photos.\n"
    assert f"{folder}/Barack_Obama/0.jpg: The JPEG is truncated." in result.stderr
    assert f"{folder}/Nobody.png: The image's header is truncated." in result.stderr
    assert f"{folder}/Group.jpg: The image shows 6 faces; that at 461, 270, 109, 147 was enrolled." in result.stderr
    assert result.stderr.endswith("Error: 2 of 6 photos could not be used.\n")
    assert people(call) == {"Barack_Obama": 2, "Group": 1, "Joe_Biden": 1}
    rows = json.loads(call("enrol", folder, "--add", "--json", status=1).stdout)
    assert {row["id"]: row.get("error", {}).get("code") for row in rows if row["id"] != "Barack_Obama"} == {
        "Nobody": "undecodable_image",
        "Group": None,
        "Joe_Biden": None,
    }


def test_it_can_be_said_which_face_is_meant(call: Call, tmp_path: Path, photos: Path) -> None:
    folder, twins = tmp_path / "people", tmp_path / "people" / "Twins.jpg"
    folder.mkdir()
    photo = cv2.imread(str(photos / "obama2.jpg"))
    cv2.imwrite(str(twins), np.hstack([photo, photo[:, ::-1]]))
    refused = call("enrol", folder, status=1).stderr
    assert f"{twins}: Several faces are equally good, at " in refused and "largest" in refused
    assert people(call) == {}
    row = json.loads(call("enrol", folder, "--json", status=1).stdout)[0]
    assert row["error"]["code"] == "ambiguous_face"
    x = photo.shape[1]
    for add, face, least in (([], f"{x // 2},420", 0), (["--add"], f"{x * 3 // 2},420", x), (["--add"], "largest", 0)):
        said = call("enrol", folder, *add, "--face", face).stderr
        box = re.search(r"The image shows 2 faces; that at (\d+), \d+, \d+, \d+ was enrolled\.", said)
        assert box and int(box[1]) >= least
    assert people(call) == {"Twins": 3}
    assert "largest" in call("enrol", folder, "--face", "smallest", status=2).stderr
    answer = json.loads(
        call("verify", twins, twins, "--face2", f"{x * 3 // 2},420", "--face1", "largest", "--json").stdout
    )
    assert int(answer["bbox2"].split(", ")[0]) >= x
    missed = call("verify", twins, photos / "biden.jpg", "--face2", "1,1", status=2).stderr
    assert f"{photos}/biden.jpg: There is no face at 1,1 in the image." in missed


def test_it_can_be_said_how_hard_to_look(call: Call, tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    distant = folder / "Ann.jpg"
    distant.write_bytes(far_away(photos / "obama.jpg"))
    for add in ([], ["--add"]):
        assert "There is no face" in call("enrol", folder, *add, status=1).stderr
        assert "There is no face" not in call("enrol", folder, *add, "--detection", "thorough", status=1).stderr
    for detection, found in (("fast", 0), ("thorough", 1)):
        (row,) = json.loads(call("recognise", distant, "--detection", detection, "--json").stdout)
        assert len(row["faces"]) == found
    compared = "verify", distant, photos / "obama.jpg", "--detection"
    assert f"{distant}: There is no face" in call(*compared, "fast", status=2).stderr
    assert (
        int(
            json.loads(call(*compared, "thorough", "--min-distance", "0", "--json", status=1).stdout)["bbox1"].split(
                ", "
            )[2]
        )
        < 40
    )
    for command in (("enrol", folder), ("recognise", distant), ("verify", distant, distant)):
        assert "'fast', 'thorough'" in call(*command, "--detection", "slow", status=2).stderr


def test_names_that_are_no_text_fail_alone(call: Call, tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    shutil.copy(photos / "obama.jpg", bytes(folder) + b"/J\xfcrgen.jpg")
    shutil.copy(photos / "biden.jpg", folder / "Jürgen.jpg")
    result = call("enrol", folder, status=1)
    assert "The id: must be valid Unicode." in result.stderr
    assert people(call) == {"Jürgen": 1}


def test_many_photos_go_in_batches(call: Call, tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "people"
    (folder / "many").mkdir(parents=True)
    small = cv2.resize(cv2.imread(str(photos / "obama.jpg")), None, fx=0.25, fy=0.25)
    cv2.imwrite(str(folder / "p00.jpg"), small)
    for number in range(34):
        shutil.copy(folder / "p00.jpg", folder / f"p{number + 1:02}.jpg")
        shutil.copy(folder / "p00.jpg", folder / "many" / f"{number}.jpg")
    assert call("enrol", folder).stdout == "Enrolled 36 people with 69 photos.\n"
    assert people(call) == {"many": 34} | {f"p{number:02}": 1 for number in range(35)}


def test_recognise_prints_json(call: Call, folder: Path, photos: Path) -> None:
    call("enrol", folder)
    bad = folder / "bad.jpg"
    bad.write_text("no picture")
    result = call("recognise", photos / "obama3.jpg", bad, "--json", status=1)
    good, failed = json.loads(result.stdout)
    (face,) = good["faces"]
    assert good["file"] == str(photos / "obama3.jpg") and (face["id"], face["name"]) == ("Barack_Obama", "Barack Obama")
    assert failed["error"]["code"] == "unsupported_image_type"
    assert result.stderr.endswith("Error: 1 of 2 files could not be used.\n")
    (strict,) = json.loads(call("recognise", photos / "obama3.jpg", "--json", "--min-distance", "1").stdout)
    unknown = {
        "bbox": face["bbox"],
        "angle": 0,
        "id": None,
        "name": None,
        "distance": face["distance"],
        "threshold": 1.0,
    }
    assert strict["faces"] == [unknown]
    (rated,) = json.loads(call("recognise", photos / "obama3.jpg", "--json", "--false-match-rate", "0.001").stdout)
    (same,) = rated["faces"]
    assert same["id"] == face["id"] and same["threshold"] not in (9, face["threshold"] - 1)
    assert same["false_match_rate"] < 1e-3 and same["margin"] == face["margin"] > 1 and not same["ambiguous"]


def test_recognise_reads_standard_input(call: Call, folder: Path, photos: Path) -> None:
    call("enrol", folder)
    (found,) = json.loads(call("recognise", "-", "--json", data=(photos / "obama3.jpg").read_bytes()).stdout)
    assert found["file"] == "(standard input)" and found["faces"][0]["id"] == "Barack_Obama"
    assert "The image is not a JPEG" in call("recognise", "-", data=b"no picture", status=1).stderr


def test_recognise_looks_into_folders(call: Call, folder: Path) -> None:
    call("enrol", folder)
    found = {one["file"]: one["faces"][0]["id"] for one in json.loads(call("recognise", folder, "--json").stdout)}
    assert found == {
        f"{folder}/Barack_Obama/1.JPG": "Barack_Obama",
        f"{folder}/Barack_Obama/2.jpeg": "Barack_Obama",
        f"{folder}/Joe_Biden.jpg": "Joe_Biden",
    }
    assert "no pictures" in call("recognise", folder / "empty", status=1).stderr


@pytest.fixture
def mixed(tmp_path: Path, photos: Path) -> Path:
    """One man in every format, deep below the folder that is his, under names that say nothing or something wrong."""
    folder = tmp_path / "people"
    deep = folder / "Barack_Obama" / "2012" / "May" / "1"
    deep.mkdir(parents=True)
    with Image.open(photos / "obama.jpg") as image:
        picture = image.convert("RGB").resize((image.width // 2, image.height // 2))
    for number, kind in enumerate(("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")):
        (deep / f"{number}{('.jfif', '', '.txt', '.mp4')[number % 4]}").write_bytes(encoded(picture, kind))
    return folder


def test_every_format_counts_at_any_depth(call: Call, mixed: Path) -> None:
    assert call("enrol", mixed).stdout == "Enrolled 1 people with 8 photos.\n"
    assert people(call) == {"Barack_Obama": 8}
    found = json.loads(call("recognise", mixed, "--json", "--draw", mixed.parent / "out").stdout)
    assert [[face["id"] for face in one["faces"]] for one in found] == [["Barack_Obama"]] * 8
    assert len(list((mixed.parent / "out").rglob("*.jpg"))) == 8


def test_what_is_passed_over_is_listed_at_the_end(call: Call, mixed: Path, photos: Path) -> None:
    deep = mixed / "Barack_Obama" / "2012"
    (deep / "notes.jpg").write_text("no picture")
    (mixed / "empty.png").touch()
    shutil.copy(photos / "obama.jpg", deep / ".hidden")
    (deep / "lost.jpg").symlink_to("nowhere.jpg")
    write_video(mixed / "film.avi", [frame_at([Actor(photos / "obama2.jpg", 20)], 0)] * 3, 10)
    (mixed / "film.avi").rename(mixed / "film")
    result = call("enrol", mixed, status=1)
    assert result.stdout == "Enrolled 1 people with 8 photos.\n"
    assert result.stderr.splitlines()[-7:] == [
        "Passed over 5 files:",
        f"  {deep}/.hidden: hidden",
        f"  {deep}/lost.jpg: no file",
        f"  {deep}/notes.jpg: neither a picture nor a video",
        f"  {mixed}/empty.png: neither a picture nor a video",
        f"  {mixed}/film: a video",
        "Error: 5 files passed over.",
    ]
    rows = json.loads(call("recognise", mixed, "--json", status=1).stdout)
    passed = {row["file"]: row["error"] for row in rows if "error" in row}
    assert len(passed) == 4 and {error["code"] for error in passed.values()} == {"passed_over"}
    (watched,) = [row for row in rows if "seen" in row]
    assert watched["file"] == f"{mixed}/film" and [one["id"] for one in watched["seen"]] == ["Barack_Obama"]
    for path in mixed.rglob("*"):
        if path.is_file() and path.parent.name == "1":
            path.unlink()
    result = call("enrol", mixed, status=1)
    assert "Passed over 5 files:" in result.stderr and "There are no pictures" in result.stderr


def test_recognise_draws(call: Call, folder: Path, photos: Path, tmp_path: Path) -> None:
    call("enrol", folder)
    (folder / "Barack_Obama" / "3.png").write_bytes(
        cv2.imencode(".png", cv2.imread(str(photos / "obama3.jpg"), cv2.IMREAD_REDUCED_COLOR_2))[1].tobytes()
    )
    out = tmp_path / "out"
    call("recognise", folder, "--draw", out)
    drawn = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert drawn == ["Barack_Obama/1.JPG", "Barack_Obama/2.jpeg", "Barack_Obama/3.png.jpg", "Joe_Biden.jpg"]
    (found,) = json.loads(call("recognise", folder / "Joe_Biden.jpg", "--json", "--draw", out / "one.jpg").stdout)
    original, copy = cv2.imread(str(folder / "Joe_Biden.jpg")), cv2.imread(str(out / "one.jpg"))
    assert original.shape == copy.shape
    x, y, width, height = map(int, found["faces"][0]["bbox"].split(","))
    changed = (abs(original.astype(int) - copy) > 60).any(axis=2)
    assert changed[y : y + height, x].mean() > 0.8 and changed[y + height, x : x + width].mean() > 0.8
    assert changed[y + height // 3 : y + 2 * height // 3, x + width // 3 : x + 2 * width // 3].mean() < 0.01


def test_draw_writes_over_nothing(call: Call, folder: Path, photos: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    shutil.copy(photos / "biden.jpg", other / "Joe_Biden.jpg")
    before = {path: path.read_bytes() for path in folder.rglob("*.jp*g")}
    for arguments in (
        (folder, "--draw", folder),
        (folder, "--draw", folder / "one.jpg"),
        (folder / "Joe_Biden.jpg", "--draw", folder / "Joe_Biden.jpg"),
        (folder / "Joe_Biden.jpg", other / "Joe_Biden.jpg", "--draw", folder / "out"),
    ):
        assert "--draw" in call("recognise", *arguments, status=2).stderr
    assert before == {path: path.read_bytes() for path in folder.rglob("*.jp*g")}
    shutil.copy(photos / "obama.jpg", folder / "x.jpg")
    (folder / "file").write_text("")
    result = call("recognise", folder / "x.jpg", "--draw", folder / "file" / "deeper", status=1)
    assert "cannot be written" in result.stderr


def test_verify(call: Call, photos: Path) -> None:
    obama, other, biden = photos / "obama.jpg", photos / "obama3.jpg", photos / "biden.jpg"
    assert re.fullmatch(
        r"same  distance \d\.\d+, threshold 9, false match rate 1.55e-05\n", call("verify", obama, other).stdout
    )
    assert call("verify", obama, biden, status=1).stdout.startswith("different  distance 1")
    answer: dict[str, Any] = json.loads(call("verify", obama, "-", "--json", data=other.read_bytes()).stdout)
    assert answer["same"] is True and set(answer) == {
        "same",
        "distance",
        "threshold",
        "false_match_rate",
        "bbox1",
        "bbox2",
        "quality1",
        "quality2",
    }
    call("verify", obama, other, "--min-distance", answer["distance"] / 2, status=1)
    refused = call("verify", obama, "-", data=b"no picture", status=2).stderr
    assert "(standard input): The image is not a JPEG" in refused and "image2" not in refused
    assert "Only one" in call("verify", "-", "-", status=2).stderr
    assert call("verify", obama, photos / "none.jpg", status=2).stdout == ""


def test_verify_names_the_file(call: Call, photos: Path, tmp_path: Path) -> None:
    obama, blank, large = photos / "obama.jpg", tmp_path / "blank.png", tmp_path / "large.jpg"
    cv2.imwrite(str(blank), np.full((200, 200, 3), 128, np.uint8))
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for pictures, expected in (((obama, blank), blank), ((blank, obama), blank), ((obama, large), large)):
        refused = call("verify", *pictures, status=2).stderr
        assert refused.startswith(f"Error: {expected}: ") and refused.count(": ") == 2


def test_people_are_looked_at_changed_and_deleted(call: Call, folder: Path) -> None:
    call("enrol", folder)
    assert call("people", "list", "--text", "OBAMA").stdout.splitlines()[1].split()[:4] == (
        ["Barack_Obama", "Barack", "Obama", "2"]
    )
    call("people", "rename", "Joe_Biden", "Joe\x1b[2J")
    assert json.loads(call("people", "show", "Joe_Biden", "--json").stdout)["name"] == "Joe\x1b[2J"
    assert "\x1b" not in call("people", "show", "Joe_Biden").stdout + call("people", "list").stdout
    numbers = [one["number"] for one in json.loads(call("people", "photos", "Barack_Obama", "--json").stdout)]
    call("people", "photos", "Barack_Obama", "--delete", numbers[0])
    assert people(call) == {"Barack_Obama": 1, "Joe_Biden": 1}
    result = call("people", "delete", "Nobody", "Joe_Biden", status=1)
    assert "Nobody: There is nobody with this id." in result.stderr and "1 of 2" in result.stderr
    assert people(call) == {"Barack_Obama": 1}
    call("people", "delete", "--all", data=b"n\n", status=1)
    assert people(call) == {"Barack_Obama": 1}
    call("people", "delete", "--all", "--yes")
    assert people(call) == {} and call("people", "list").stdout == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("people show nobody", 1),
        ("people rename nobody name", 1),
        ("people photos nobody", 1),
        ("people delete", 2),
        ("people delete --all someone", 2),
        ("people photos nobody --delete -1", 2),
        ("enrol /nowhere", 2),
        ("recognise", 2),
        ("recognise /nowhere.jpg", 2),
        ("recognise - --min-distance -1", 2),
        ("recognise - --min-distance nan", 2),
        ("recognise - --every 0", 2),
        ("live /nowhere.mp4", 2),
        ("live 999", 1),
    ],
)
def test_what_is_refused(call: Call, command: str, status: int) -> None:
    result = call(*command.split(), status=status)
    assert "Error" in result.stderr and result.stdout == ""


def test_where_to_work_is_said_once(front_settings: FrontSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--local", "--url", "http://127.0.0.1:1"], ["--company", "1042"]):
        assert CliRunner().invoke(main, ["people", "list", *arguments]).exit_code == 2
    monkeypatch.setenv("FACE_URL", "http://127.0.0.1:1")
    refused = CliRunner().invoke(main, ["people", "list"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: Nothing answers at http://127.0.0.1:1.")
    monkeypatch.setenv("DATABASE", front_settings.database)
    monkeypatch.setenv("DEEPFACE_HOME", str(front_settings.deepface_home))
    # FACE_URL is a default, not a contradiction.
    assert CliRunner().invoke(main, ["people", "list", "--local"]).exit_code == 0
    assert CliRunner().invoke(main, ["people", "list", "--local", "--company", "nobody"]).exit_code == 1
    open_gallery(front_settings.database).close()


@pytest.mark.parametrize(
    "command",
    ["enrol", "recognise", "verify", "live", "people", "export", "import", "doctor"],
)
def test_help_has_examples(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"], prog_name="python -m face_detection")
    assert result.exit_code == 0 and f"\n    python -m face_detection {command}" in result.output


def test_events_are_listed(call: Call, folder: Path, photos: Path) -> None:
    call("enrol", folder)
    call("recognise", photos / "obama3.jpg")
    wait_until(lambda: len(json.loads(call("events", "--json").stdout)) == 4)
    latest, *_ = json.loads(call("events", "--json").stdout)
    assert (latest["kind"], latest["person"], latest["name"]) == ("recognised", "Barack_Obama", "Barack Obama")
    found = json.loads(call("events", "--person", "Joe_Biden", "--kind", "enrolled", "--json").stdout)
    assert [one["person"] for one in found] == ["Joe_Biden"]
    assert json.loads(call("events", "--since", latest["at"], "--json").stdout) == [latest]
    assert len(json.loads(call("events", "--until", latest["at"], "--json").stdout)) == 3
    assert len(json.loads(call("events", "--limit", "2", "--json").stdout)) == 2
    assert call("events", "--device", "7").stdout == ""
    assert call("events", "--limit", "1").stdout.split()[:4] == ["NUMBER", "AT", "KIND", "PERSON"]
    assert "must be an ISO 8601 time" in call("events", "--since", "yesterday", status=2).stderr


def test_people_are_found_by_their_metadata(call: Call, front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    for id, metadata in (("a", {"department": "Sales", "floor": 3}), ("b", {"department": "Sales"}), ("c", None)):
        gallery.store.upsert("default", [sample(id, metadata=metadata)])
    gallery.close()

    def found(*conditions: str) -> list[str]:
        options = [part for condition in conditions for part in ("--metadata", condition)]
        return [one["id"] for one in json.loads(call("people", "list", "--json", *options).stdout)]

    assert found("department=Sales") == ["a", "b"]
    assert found("department=Sales", "floor=3") == ["a"]
    assert "is not like department=Sales" in call("people", "list", "--metadata", "Sales", status=2).stderr


def test_folders_of_another_system_are_the_same_people(call: Call, tmp_path: Path, photos: Path) -> None:
    for name, photo in (("Zoë", "obama.jpg"), (unicodedata.normalize("NFD", "Zoë"), "obama2.jpg")):
        (tmp_path / "people" / name).mkdir(parents=True)
        shutil.copy(photos / photo, tmp_path / "people" / name / photo)
    call("enrol", tmp_path / "people")
    assert people(call) == {"Zoë": 2}
    for id in ("Zoë", unicodedata.normalize("NFD", "Zoë")):
        assert json.loads(call("people", "show", id, "--json").stdout)["id"] == "Zoë"
    assert json.loads(call("people", "list", "--text", "ZOE", "--json").stdout)[0]["id"] == "Zoë"
    assert "must not be empty or blank" in call("people", "rename", "Zoë", " ", status=1).stderr
    call("people", "delete", unicodedata.normalize("NFD", "Zoë"))
    assert people(call) == {}


def test_people_with_ids_of_former_releases(call: Call, front_settings: FrontSettings) -> None:
    gallery = open_gallery(front_settings.database)
    gallery.store.upsert("default", [sample(id, vector) for id, vector in zip(("..", "b"), vectors(2), strict=True)])
    gallery.close()
    result = CliRunner().invoke(main, ["doctor", "--json"])
    (found,) = (one for one in json.loads(result.stdout) if one["what"] == "ids of people")
    assert found["state"] == "note" and "'..' of default" in found["found"] and "people delete" in found["advice"]
    call("people", "delete", "..")
    assert set(people(call)) == {"b"}


def test_liveness_where_there_is_none(call: Call, photos: Path) -> None:
    two = photos / "obama.jpg", photos / "obama2.jpg"
    for command, pictures, status in (("verify", two, 2), ("recognise", two[:1], 1)):
        assert "LIVENESS=available" in call(command, *pictures, "--liveness", status=status).stderr
