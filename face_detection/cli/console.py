"""What all commands share: opening the database, printing lists, and kinds of parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click

from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.directory import MAX_INTEGER
from shared.errors import ServiceError, SettingsError
from shared.settings import FrontSettings

CODE = click.IntRange(0, MAX_INTEGER)

as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")


@contextmanager
def opened() -> Iterator[Gallery]:
    """The database of the settings, which is created if it is missing. A refusal ends the command with exit code 1."""
    try:
        database = FrontSettings.from_environment().database
        if database == ":memory:":
            raise SettingsError("DATABASE=:memory: ends with the process: name the service's file.")
        is_new = "://" not in database and not Path(database).exists()
        gallery = open_gallery(database)
        if is_new:  # perhaps not meant: DATABASE is another for the service, or its path is relative
            click.echo(f"Made a new database, {database}.", err=True)
        try:
            yield gallery
        finally:
            gallery.close()
    except ServiceError as error:
        raise click.ClickException(error.explained) from error


def print_list(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print rows, which have the same members, as a table or as JSON."""
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=_json))
        return
    if not rows:
        return
    table = [[name.replace("_", " ").upper() for name in rows[0]]]
    table += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _json(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def printable(text: str) -> str:
    """A text that does not steer the terminal: a name is a client's choice."""
    return "".join(character if character.isprintable() else "?" for character in text)
