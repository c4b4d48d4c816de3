"""The command line as real processes, beside a running service's database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from face_detection.access import Access
from face_detection.cli import main
from face_detection.cli.console import print_list
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import Device, Right, Sector, TenantSettings
from shared.errors import Unauthorized
from tests.conftest import ROOT

pytestmark = pytest.mark.processes

Run = Callable[..., subprocess.CompletedProcess[str]]
Call = Callable[..., str]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


@pytest.fixture
def gallery(database: Path) -> Iterator[Gallery]:
    """What the service would have open."""
    gallery = open_gallery(str(database))
    yield gallery
    gallery.close()


@pytest.fixture
def run(database: Path) -> Run:
    """Runs a process."""
    environment = {name: value for name, value in os.environ.items() if name != "ALLOW_ANONYMOUS"}

    def start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "face_detection", *arguments],
            cwd=ROOT,
            env=environment | {"DATABASE": str(database)} | settings,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return start


@pytest.fixture
def call(database: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command in this process and returns what it prints; ``status`` is the exit code that it must have."""
    monkeypatch.setenv("DATABASE", str(database))

    def invoke(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, arguments, prog_name="python -m face_detection")
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result.output

    return invoke


def test_a_key_is_made_used_rotated_and_revoked(run: Run, gallery: Gallery) -> None:
    access = Access(gallery.directory, allow_anonymous=False)
    made = run("keys", "create", "operator", "--right", "admin")
    assert made.returncode == 0
    assert re.fullmatch(r"fr_[0-9a-f]{16}_[\w-]{43}\n", made.stdout)
    id = made.stdout[3:19]
    assert id in made.stderr and made.stdout.strip() not in made.stderr and "not shown again" in made.stderr
    assert access.authenticate(made.stdout.strip()).operator

    rotated = run("keys", "rotate", id)
    assert access.authenticate(rotated.stdout.strip()).key == id
    with pytest.raises(Unauthorized):
        access.authenticate(made.stdout.strip())

    assert run("keys", "revoke", id).returncode == 0
    with pytest.raises(Unauthorized):
        access.authenticate(rotated.stdout.strip())
    (listed,) = json.loads(run("keys", "list", "--json").stdout)
    assert (listed["id"], listed["company"], listed["rights"]) == (id, "default", ["admin"]) and listed["revoked_at"]


def test_refusals_are_one_line_on_stderr(run: Run, gallery: Gallery) -> None:
    refused = run("keys", "create", "door", "--company", "1042", "--right", "recognise")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Error: There is no such company.\n"
    misunderstood = run("keys", "create", "door", "--right", "everything")
    assert (misunderstood.returncode, misunderstood.stdout) == (2, "")
    for settings in ({"DATABASE": ":memory:"}, {"DATABASE": "/proc/nowhere/gallery.db"}, {"MAX_FACES": "many"}):
        refused = run("companies", "list", **settings)
        assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (1, "", 1), refused.stderr
        assert next(iter(settings)) in refused.stderr


def test_what_a_key_is_made_with(call: Call, gallery: Gallery) -> None:
    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    command = "keys create desk --company 1042 --right enrol --right recognise --requests-per-minute 60 --max-samples 5"
    call(*command.split(), "--expires", "2999-12-31")
    (key,) = gallery.directory.keys("1042")
    assert (key.name, key.rights) == ("desk", frozenset({Right.ENROL, Right.RECOGNISE}))
    assert (key.requests_per_minute, key.max_samples) == (60, 5)
    assert key.expires_at is not None and key.expires_at.isoformat() == "2999-12-31T00:00:00+00:00"
    assert key.id in call("keys", "list", "--company", "1042")
    assert call("keys", "list", "--company", "default") == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("keys create a --right admin --expires 2020-01-01", 1),
        ("keys create a --right admin --expires soon", 2),
        ("keys create a --right admin --requests-per-minute 0", 2),
        ("keys create a --right admin --max-samples -1", 2),
        ("keys create a", 2),
        ("keys list --company nobody", 1),
        ("keys rotate unknown", 1),
        ("keys revoke unknown", 1),
        ("companies add a/b name", 1),
        ("companies add default name", 1),
        ("companies add 1 name --min-distance nan", 1),
        ("companies add 1 name --min-distance far", 2),
        ("companies add 1 name --rule best", 2),
        ("companies set nobody --rule vote", 1),
        ("companies remove default", 1),
        ("sectors list nobody", 1),
        ("sectors add default -1 name", 2),
        ("sectors remove default 1", 1),
        ("devices add default 1 name --sector 9", 1),
        ("devices remove default 1", 1),
    ],
)
def test_what_is_refused(call: Call, command: str, status: int) -> None:
    assert "Error" in call(*command.split(), status=status)


def test_companies(call: Call, gallery: Gallery) -> None:
    call("companies", "add", "1042", "Acme Ltd.", "--min-distance", "8", "--keep-crops")
    assert gallery.directory.tenant("1042").settings == TenantSettings(min_distance=8, keep_crops=True)
    call("companies", "set", "1042", "--rule", "vote", "--neighbours", "3", "--event-days", "0")
    call("companies", "set", "1042", "--liveness", "required")
    call("companies", "set", "1042", "--min-distance", "none", "--no-keep-crops", "--name", "Acme")
    expected = TenantSettings(rule="vote", neighbours=3, event_days=0, liveness="required")
    assert (gallery.directory.tenant("1042").name, gallery.directory.tenant("1042").settings) == ("Acme", expected)
    listed = json.loads(call("companies", "list", "--json"))
    assert [(one["company"], one["event_days"]) for one in listed] == [("1042", 0), ("default", None)]
    assert call("companies", "list").splitlines()[1].split()[:2] == ["1042", "Acme"]
    call("companies", "remove", "1042")
    assert [tenant.id for tenant in gallery.directory.tenants()] == ["default"]


def test_sectors_and_devices(call: Call, gallery: Gallery) -> None:
    call("sectors", "add", "default", "7", "Ground floor")
    call("devices", "add", "default", "31", "Front door", "--sector", "7")
    assert gallery.directory.sectors("default") == [Sector("default", 7, "Ground floor")]
    assert gallery.directory.devices("default") == [Device("default", 31, "Front door", 7)]
    assert json.loads(call("sectors", "list", "default", "--json")) == [{"code": 7, "name": "Ground floor"}]
    assert call("devices", "list", "default") == "CODE  NAME        SECTOR\n31    Front door  7\n"
    call("devices", "remove", "default", "31")
    call("sectors", "remove", "default", "7")
    assert call("devices", "list", "default", "--json") == "[]\n"


def test_a_new_database_is_mentioned(call: Call, database: Path) -> None:
    assert call("keys", "list") == f"Made a new database, {database}.\n"
    assert call("keys", "list") == ""


def test_a_name_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([{"name": "a\x1b[2J\nb"}], as_json=False)
    assert capsys.readouterr().out == "NAME\na?[2J?b\n"


@pytest.mark.parametrize("command", [[], ["keys"], ["keys", "create"], ["companies", "set"], ["devices", "add"]])
def test_help_has_examples(call: Call, command: list[str]) -> None:
    text = call(*command, "--help")
    assert "Usage: python -m face_detection" in text
    assert ("Example" in text) == (command != ["keys"])


def test_collections_are_created_listed_and_deleted(call: Call, gallery: Gallery) -> None:
    gallery.directory.create_tenant("1042", "Acme", TenantSettings())
    call("collections", "create", "visitors", "--company", "1042")
    listed = json.loads(call("collections", "list", "--company", "1042", "--json"))
    assert [(row["collection"], row["company"]) for row in listed] == [("default", "1042"), ("visitors", "1042")]
    assert [row["collection"] for row in json.loads(call("collections", "list", "--json"))] == ["default"]
    for command in (
        "create visitors --company 1042",
        "create a/b",
        "delete default",
        "delete nobody",
        "list --company 7",
    ):
        assert call("collections", *command.split(), status=1).startswith("Error: ")
    call("collections", "delete", "visitors", "--company", "1042")
    assert [one.name for one in gallery.collections.page("1042").collections] == ["default"]
