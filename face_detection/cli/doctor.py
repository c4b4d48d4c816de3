"""python -m face_detection doctor"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

import click

from face_detection.cli.checks import Finding, State, examine_machine, examine_services
from face_detection.cli.console import printable
from face_detection.cli.service.connection import url_option
from shared.errors import SettingsError
from shared.settings import ExtractionSettings, FrontSettings

_COLOURS = {State.WELL: "green", State.NOTE: "yellow", State.BROKEN: "red"}


@click.command(
    epilog="""\b
Examples:
  python -m face_detection doctor
  python -m face_detection doctor --json --url http://10.0.0.5:6337
"""
)
@url_option
@click.option("--integrity", is_flag=True, help="Compare every index of an SQLite database with its table, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with an object for each finding.")
@click.pass_context
def doctor(context: click.Context, url: str, integrity: bool, as_json: bool) -> None:
    """Look whether everything works, and say of what does not what to do.

    It checks settings, ports, weights, the runtime of the model, database, disk space, and the services if they run.
    What is broken makes the exit code 1; a note says what is absent and may be meant so, like a service that does not
    run when no address was given.
    """
    findings = list(
        _findings(
            url, integrity, expected=context.get_parameter_source("url") is not click.core.ParameterSource.DEFAULT
        )
    )
    if as_json:
        click.echo(json.dumps([one.row() for one in findings], indent=2))
    else:
        for one in findings:
            mark = click.style(f"{one.state:<7}", fg=_COLOURS[one.state])
            click.echo(f"{mark} {one.what}: {printable(one.found)}")
            if one.advice:
                click.echo(f"        {printable(one.advice)}")
    sys.exit(any(one.state is State.BROKEN for one in findings))


def _findings(url: str, integrity: bool, expected: bool) -> Iterable[Finding]:
    try:
        extraction, front = ExtractionSettings.from_environment(), FrontSettings.from_environment()
    except SettingsError as error:
        yield Finding(
            "settings", State.BROKEN, error.message, "Correct the environment variable; see docs/settings.md."
        )
        return
    yield Finding("settings", State.WELL, "all can be read")
    yield from examine_machine(extraction, front, integrity)
    yield from examine_services(extraction, front, url, os.environ.get("FACE_API_KEY", "").strip() or None, expected)
