"""export and import: what goes out comes in again, and what is damaged does not."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from face_detection.cli import main, transfer
from face_detection.cli.service import remote
from face_detection.cli.service.protocol import Record
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.people import Description, NewSample
from shared.errors import InvalidRequest
from shared.settings import FrontSettings
from tests.galleries import remove_tombstones
from tests.gallery_samples import vectors
from tests.running_front import running_front

SPACE = "facenet/92c3c3f568c4/arcfacex0.95-160x160/prewhiten"
TIMES: dict[str, Any] = {"created_at": "2020-02-02T02:02:02.020+00:00", "updated_at": "2021-02-02T02:02:02.020+00:00"}
RECORDS = [
    Record(
        "44",
        "Barack Öbama",
        {"floor": [2, None, "☺"]},
        "go",
        [(SPACE, vectors(1, 128, 1)[0])],
        **TIMES,
    ),
    Record("46", "Joe", None, None, [(SPACE, vectors(1, 128, 2)[0]), ("sface/1/x/y", vectors(1, 64, 3)[0])], **TIMES),
]

Call = Callable[..., Result]


@pytest.fixture
def call(front_settings: FrontSettings, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in this process; ``status`` is the exit code that it must have."""
    monkeypatch.delenv("FACE_API_KEY", raising=False)
    monkeypatch.setenv("DATABASE", front_settings.database)
    monkeypatch.setenv("DEEPFACE_HOME", str(front_settings.deepface_home))
    monkeypatch.setenv("EXTRACTION_URL", front_settings.extraction_url)

    def invoke(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments])
        assert result.exit_code == status, result.output
        return result

    return invoke


@pytest.fixture
def gallery(front_settings: FrontSettings) -> Iterator[Gallery]:
    gallery = open_gallery(front_settings.database)
    yield gallery
    gallery.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.jsonl"
    transfer.write_file(path, RECORDS)
    return path


def test_an_export_during_which_deletions_are_forgotten_starts_over(
    front_settings: FrontSettings, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [NewSample(id, id, None, SPACE, vector) for id, vector in zip("abcd", vectors(4, 128), strict=True)]
    gallery.store.upsert("default", own)
    monkeypatch.setattr(remote, "_PAGE", 1)
    with running_front(front_settings) as url:
        service = remote.RemoteService(url, None)
        call, waiting = service._call, ["a", "b"]

        def call_and_delete(method: str, path: str, **request: Any) -> Any:
            response = call(method, path, **request)
            if path == "/faces/sync" and waiting:
                gallery.store.delete("default", waiting.pop())
                gallery.store.describe("default", "c", Description("C"))
                remove_tombstones(gallery)
            return response

        monkeypatch.setattr(service, "_call", call_and_delete)
        assert [(one.id, len(one.samples)) for one in service.export()] == [("c", 1), ("d", 1)]
        assert not waiting
        service.close()


def plain(record: Record) -> tuple[Any, ...]:
    samples = [(space, vector.tolist()) for space, vector in record.samples]
    return record.id, record.name, record.metadata, record.action, samples, record.created_at, record.updated_at


def stored(gallery: Gallery) -> dict[str, Any]:
    return {
        person.id: (
            person.name,
            person.metadata,
            person.action,
            [(one.space, one.vector.tolist()) for one in gallery.store.samples("default", person.id)],
            person.created_at,
            person.updated_at,
        )
        for person in gallery.store.page("default", 1000).people
    }


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    assert [plain(one) for one in transfer.read_file(file)] == [plain(one) for one in RECORDS]
    summary = transfer.check_file(file)
    assert (summary.people, summary.samples) == (2, 3) and summary.spaces == {SPACE: 2, "sface/1/x/y": 1}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".db"] == ["people.jsonl"]


def test_files_of_former_releases(tmp_path: Path) -> None:
    """Ids and names were not composed then, and names could be blank."""
    samples = [(SPACE, vectors(1, 128)[0])]
    apart = unicodedata.normalize("NFD", "Zoë")
    path = tmp_path / "former.jsonl"
    transfer.write_file(
        path, [Record(apart, apart, {"name": apart}, None, samples), Record("46", " ", None, None, samples)]
    )
    found = [(one.id, one.name, one.metadata) for one in transfer.read_file(path)]
    assert found == [("Zoë", "Zoë", {"name": apart}), ("46", "46", None)]
    transfer.write_file(path, [Record(id, "A", None, None, samples) for id in (apart, "Zoë")])
    with pytest.raises(InvalidRequest, match="line 3: The id is the same as one before, or looks the same"):
        transfer.check_file(path)


def test_the_format_is_as_documented(file: Path) -> None:
    """By means of nothing but the description in docs/cli.md."""
    lines = file.read_bytes().splitlines(keepends=True)
    head, first, _, foot = (json.loads(line) for line in lines)
    assert (head["format"], head["version"]) == ("face-recognition-people", 2)
    assert (
        np.frombuffer(base64.b64decode(first["samples"][0]["vector"]), "<f4").tolist() == vectors(1, 128, 1)[0].tolist()
    )
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    assert foot == {"people": 2, "samples": 3, "sha256": digest}


def test_a_write_that_fails_leaves_the_former_file(file: Path) -> None:
    before = file.read_bytes()

    def broken() -> Iterator[Record]:
        yield RECORDS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.write_file(file, broken())
    assert file.read_bytes() == before and len(list(file.parent.glob(".*"))) == 0
    with pytest.raises(InvalidRequest, match="cannot be written"):
        transfer.write_file(file / "deeper.jsonl", RECORDS)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "no file that export has written"),
    "another file": (lambda data: b"# Title\n", "no file that export has written"),
    "another format": (lambda data: data.replace(b"face-recognition-people", b"other", 1), "format"),
    "a later version": (lambda data: data.replace(b'"version":2', b'"version":3', 1), "version 3"),
    "cut off within a line": (lambda data: data[:-100], "line 4: It is cut off"),
    "cut off after a line": (lambda data: b"".join(data.splitlines(keepends=True)[:-1]), "is not complete"),
    "a line less": (lambda data: b"".join(data.splitlines(keepends=True)[i] for i in (0, 1, 3)), "checksum"),
    "another name": (lambda data: data.replace(b"Barack", b"Borock"), "line 4: .*checksum"),
    "a longer file": (lambda data: data + b"{}\n", "Something follows"),
    "no JSON": (lambda data: data.replace(b'{"id":"46"', b'{"id":"46'), "line 3: "),
    "a missing member": (lambda data: data.replace(b'"name":"Joe",', b""), "line 3: name is not as export writes it"),
    "an unknown member": (
        lambda data: data.replace(b'"name":"Joe"', b'"name":"Joe","x":1'),
        "line 3: x is not",
    ),
    "no id": (lambda data: data.replace(b'"id":"46"', b'"id":""'), "line 3: The id: must not be empty"),
    "a number for an id": (
        lambda data: data.replace(b'"id":"46"', b'"id":46'),
        "line 3: id is not",
    ),
    "an id that no address can carry": (lambda data: data.replace(b'"id":"46"', b'"id":".."'), "line 3: The id: must"),
    "one id twice": (lambda data: data.replace(b'"id":"46"', b'"id":"44"'), "line [34]: The id is the same"),
    "no base64": (lambda data: data.replace(b'"vector":"', b'"vector":"!'), "base64"),
    "half a number": (lambda data: data.replace(b'"vector":"', b'"vector":"AAAA'), "base64 of 32-bit numbers"),
    "metadata that is no JSON": (lambda data: data.replace(b'"metadata":null', b'"metadata":NaN'), "line 3: "),
    "metadata that nests": (
        lambda data: data.replace(b'"metadata":null', b'"metadata":' + b"[" * 65 + b"]" * 65),
        "line 3: .*nests",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_changes_nothing(damage: str, call: Call, file: Path, gallery: Gallery) -> None:
    mend, reason = DAMAGES[damage]
    file.write_bytes(mend(file.read_bytes()))
    with pytest.raises(InvalidRequest, match=reason):
        transfer.check_file(file)
    result = call("import", file, "--local", "--space", "any", status=1)
    assert len(result.stderr.splitlines()) == 1 and stored(gallery) == {}


def test_import_and_export_are_inverse(call: Call, file: Path, gallery: Gallery, tmp_path: Path) -> None:
    assert call("import", file, "--local", "--space", "any").stdout == "Imported 2 people.\n"
    assert stored(gallery) == {one.id: plain(one)[1:] for one in RECORDS}
    again = tmp_path / "again.jsonl"
    assert call("export", again, "--local").stdout == "Exported 2 people with 3 photos.\n"
    assert again.read_bytes().splitlines()[1:-1] == file.read_bytes().splitlines()[1:-1]


def test_other_models_are_refused(call: Call, file: Path, gallery: Gallery) -> None:
    result = call("import", file, "--local", status=1)
    assert "1 of 3 photos" in result.stderr and "sface/1/x/y" in result.stderr and "--space any" in result.stderr
    assert stored(gallery) == {}
    transfer.write_file(file, RECORDS[:1])
    assert call("import", file, "--local").stdout == "Imported 1 people.\n"


def test_who_is_there_stays_unless_replaced(call: Call, file: Path, gallery: Gallery) -> None:
    gallery.store.upsert("default", [NewSample("46", "Joe", {"own": True}, SPACE, vectors(1, 128, 9)[0])])
    gallery.store.upsert("default", [NewSample("50", "Other", None, SPACE, vectors(1, 128, 8)[0])])
    before = stored(gallery)
    result = call("import", file, "--local", "--space", "any")
    assert result.stdout == "Imported 1 people.\n" and "1 people were there already" in result.stderr
    assert stored(gallery) == before | {"44": plain(RECORDS[0])[1:]}
    assert call("import", file, "--local", "--space", "any", "--replace").stdout == "Imported 2 people.\n"
    assert stored(gallery) == {"50": before["50"]} | {one.id: plain(one)[1:] for one in RECORDS}


def test_large_files_are_imported_in_batches(call: Call, file: Path, gallery: Gallery) -> None:
    rows = vectors(900, 128, 4)
    records = [Record(f"p{n:03}", "", None, None, [(SPACE, row), (SPACE, row)]) for n, row in enumerate(rows)]
    transfer.write_file(file, records)
    assert call("import", file, "--local", "--space", "any").stdout == "Imported 900 people.\n"
    assert gallery.store.count("default") == 1800 and list(stored(gallery)) == [one.id for one in records]


def test_no_service_takes_embeddings(call: Call, file: Path) -> None:
    assert "add --local" in call("import", file, status=2).stderr
    assert "no such company" in call("import", file, "--local", "--company", "7", status=1).stderr


def test_a_service_exports_what_belongs_to_its_model(
    call: Call, file: Path, gallery: Gallery, front_settings: FrontSettings, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    call("import", file, "--local", "--space", "any")
    with running_front(front_settings) as url:
        result = call("export", out, "--url", url, status=1)
    assert result.stdout == "Exported 2 people with 2 photos.\n" and "1 photos are of other models" in result.stderr
    own = [replace(one, samples=one.samples[:1]) for one in RECORDS]
    assert [plain(one) for one in transfer.read_file(out)] == [plain(one) for one in own]


@pytest.mark.parametrize("how", ["remote", "local"])
def test_people_stay_as_old_as_they_are(
    call: Call, gallery: Gallery, front_settings: FrontSettings, tmp_path: Path, how: str
) -> None:
    gallery.store.upsert("default", [NewSample("44", "Ann", None, SPACE, vectors(1, 128)[0], **TIMES)])
    exported, again = tmp_path / "people.jsonl", tmp_path / "again.jsonl"
    with running_front(front_settings) as url:
        call("export", exported, *(("--url", url) if how == "remote" else ("--local",)))
    gallery.store.clear("default")
    call("import", exported, "--local")
    person = gallery.store.get("default", "44")
    assert (person.created_at, person.updated_at) == (TIMES["created_at"], TIMES["updated_at"])
    gallery.store.delete("default", "44")
    gallery.store.upsert("default", [NewSample("44", "Ann", None, SPACE, vectors(1, 128)[0])])
    call("import", exported, "--local", "--replace")
    person = gallery.store.get("default", "44")
    assert (person.created_at, person.updated_at) == (TIMES["created_at"], TIMES["updated_at"])
    call("export", again, "--local")
    assert exported.read_bytes().splitlines()[1:-1] == again.read_bytes().splitlines()[1:-1]


def test_a_file_of_the_first_version_is_read(gallery: Gallery, call: Call, file: Path) -> None:
    _, *people, foot = (json.loads(line) for line in file.read_bytes().splitlines())
    head = {"format": "face-recognition-people", "version": 1, "created_at": "2026-11-22T10:34:07+00:00"}
    for person in people:
        del person["created_at"], person["updated_at"]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (head, *people))
    foot["sha256"] = hashlib.sha256(body).hexdigest()
    file.write_bytes(body + json.dumps(foot, separators=(",", ":")).encode() + b"\n")
    call("import", file, "--local", "--space", "any")
    assert gallery.store.get("default", "44").created_at.startswith("20")
    assert stored(gallery).keys() == {"44", "46"}
