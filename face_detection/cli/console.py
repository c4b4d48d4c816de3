"""What commands write: lists on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import click

T = TypeVar("T")


def followed(items: Iterable[T], total: int | None, unit: str) -> Iterator[T]:
    """The items, with a progress bar if standard error is a terminal."""
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit=f" {unit}", disable=None, dynamic_ncols=True, leave=False))


def remark(text: object) -> None:
    """Print a line on standard error without disturbing a progress bar."""
    from tqdm import tqdm

    tqdm.write(printable(str(text)), file=sys.stderr)


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
