from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.logs import JsonFormatter, logging_config, new_request_id, request_id
from tests.conftest import ROOT


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger that is no part of the tree, so that only ``lines`` hears it."""
    logger = logging.Logger("tests.logs")
    yield logger
    logger.handlers.clear()


@pytest.fixture
def lines(log: logging.Logger) -> list[str]:
    """What the formatter makes of each record."""
    written: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler = Handler()
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    return written


def parse(line: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    assert "\n" not in line
    found: dict[str, Any] = json.loads(line, parse_constant=refuse)
    return found


def test_a_record_is_one_line_of_json(log: logging.Logger, lines: list[str]) -> None:
    log.warning("took %d ms\nin all", 7, extra={"faces": 3, "stages": {"decode": 1.5}})
    found = parse(lines[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "WARNING",
        "logger": "tests.logs",
        "message": "took 7 ms\nin all",
        "faces": 3,
        "stages": {"decode": 1.5},
    }


def test_the_request_is_named(log: logging.Logger, lines: list[str]) -> None:
    token = request_id.set("abc-1")
    log.info("within")
    request_id.reset(token)
    log.info("without")
    assert parse(lines[0])["request_id"] == "abc-1"
    assert "request_id" not in parse(lines[1])


def cycle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["itself"] = found
    return found


@pytest.mark.parametrize(
    "value",
    [
        Path("x"),
        {1, 2},
        b"\xff",
        object(),
        ValueError("x"),
        "\ud800 and ünïcödé",
        float("nan"),
        float("-inf"),
        {(1, 2): 3},
        cycle(),
        None,
    ],
)
def test_any_extra_is_written_somehow(value: object, log: logging.Logger, lines: list[str]) -> None:
    log.info("odd", extra={"value": value})
    found = parse(lines[0])
    assert found["message"] == "odd" and "value" in found


def test_an_exception_is_told_in_the_same_line(log: logging.Logger, lines: list[str]) -> None:
    try:
        raise RuntimeError("broken\npipe")
    except RuntimeError:
        log.exception("failed")
    found = parse(lines[0])
    assert found["message"] == "failed"
    assert found["exception"].startswith("Traceback") and found["exception"].endswith("RuntimeError: broken\npipe")


@pytest.mark.parametrize("proposed", ["a", "0b8f-1.x_Y", "z" * 64])
def test_a_harmless_id_is_kept(proposed: str) -> None:
    assert new_request_id(proposed) == proposed


@pytest.mark.parametrize("proposed", [None, "", "z" * 65, "a b", "a\n", "a\r\nSet-Cookie: x", "ä", '"', "<b>"])
def test_any_other_id_is_replaced(proposed: str | None) -> None:
    first, second = new_request_id(proposed), new_request_id(proposed)
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


def test_the_configuration_writes_json_to_standard_error() -> None:
    script = (
        "import logging, logging.config, sys\n"
        "from shared.logs import logging_config\n"
        "logging.config.dictConfig(logging_config('INFO'))\n"
        "logging.getLogger('a').debug('hidden')\n"
        "logging.getLogger('a').info('shown')\n"
        "logging.getLogger('gunicorn.error').info('also shown')\n"
        "logging.getLogger('gunicorn.access').info('every request is logged once already')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == ""
    assert [parse(line)["message"] for line in result.stderr.splitlines()] == ["shown", "also shown"]


def test_the_level_is_that_of_the_setting() -> None:
    assert logging_config("ERROR")["root"]["level"] == "ERROR"
