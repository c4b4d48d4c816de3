"""Commands are found by their names, and imported only when they are called."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from face_detection.cli import main
from tests.conftest import ROOT

CONTEXT = click.Context(main)


def test_every_command_is_found_by_its_own_name() -> None:
    names = main.list_commands(CONTEXT)
    assert names == sorted(names)
    commands = [main.get_command(CONTEXT, name) for name in names]
    assert [command and command.name for command in commands] == names


def test_no_command_of_a_module_is_forgotten() -> None:
    found = {main.get_command(CONTEXT, name) for name in main.list_commands(CONTEXT)}
    for file in sorted((ROOT / "face_detection" / "cli").glob("[a-z]*.py")):
        values = vars(import_module(f"face_detection.cli.{file.stem}")).values()
        commands = {value for value in values if isinstance(value, click.Command)}
        members = {one for group in commands if isinstance(group, click.Group) for one in group.commands.values()}
        assert commands <= found | members, file


def test_an_unknown_command_is_refused_and_a_near_one_suggested() -> None:
    result = CliRunner().invoke(main, ["enroll"])
    assert result.exit_code == 2 and "No such command 'enroll'" in result.stderr and "enrol" in result.stderr


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ("--version", {"numpy", "pydantic", "requests"}),
        ("people", {"aiohttp", "cv2", "face_detection.app", "pydantic", "sqlite_utils"}),
        ("keys", {"aiohttp", "cv2", "face_detection.app", "requests"}),
    ],
)
def test_a_command_waits_for_no_import_of_others(command: str, unneeded: set[str]) -> None:
    program = f"import sys\nfrom face_detection.cli import main\ntry: main([{command!r}, '--help'])\n"
    program += "finally: print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "click" in result.stdout.split() and not unneeded & set(result.stdout.split())
