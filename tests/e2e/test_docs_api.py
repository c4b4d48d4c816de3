"""The examples of docs/api: every command is run, and what it prints is compared with the page.

In a block of ``console`` lines that begin with "$ " are commands, which a backslash at the end or "> " at the beginning
of the next line continues, and the lines after them are what they print; "…" stands for any text within a line.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.services import ROOT, Services

pytestmark = pytest.mark.e2e

PAGES = [page for page in sorted((ROOT / "docs" / "api").glob("*.md")) if "```console" in page.read_text()]
DOCUMENTED = "http://127.0.0.1:6337"


@dataclass
class Example:
    """A command of a page and what the page says that it prints."""

    line: int
    command: str
    output: list[str]


def examples(page: Path) -> Iterator[Example]:
    current: Example | None = None
    inside = continued = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("```"):
            if current:
                yield current
            current, inside = None, line == "```console"
        elif current and inside and (continued or (line.startswith("> ") and not current.output)):
            current.command += "\n" + line.removeprefix("> ")
        elif inside and line.startswith("$ "):
            if current:
                yield current
            current = Example(number, line[2:], [])
        elif inside and current:
            current.output.append(line)
        continued = inside and line.endswith("\\")


def matches(expected: str, printed: str) -> bool:
    pattern = ".*?".join(re.escape(part) for part in expected.rstrip().split("…"))
    return re.fullmatch(pattern, printed.rstrip()) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_shows_what_happens(
    page: Path,
    environment: dict[str, str],
    start_services: Callable[..., Services],
    full_photos: Path,
    tmp_path: Path,
) -> None:
    for photo in full_photos.iterdir():
        (tmp_path / photo.name).symlink_to(photo)
    settings = environment | {"DATABASE": str(tmp_path / "gallery.db")}
    shell = settings | {"PATH": f"{Path(sys.executable).parent}:{settings['PATH']}", "PYTHONPATH": str(ROOT)}
    services = start_services()
    for example in examples(page):
        command = example.command.replace(DOCUMENTED, services.front.url)
        result = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=120
        )
        printed = result.stdout.splitlines()
        where = f"{page.name}:{example.line}: {example.command}\n{result.stdout}\n{result.stderr}"
        assert len(printed) == len(example.output), where
        for expected, line in zip(example.output, printed, strict=True):
            assert matches(expected, line), f"{where}\nexpected: {expected}"
