"""python -m face_detection companies"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from face_detection.cli.console import as_json, opened, print_list
from face_detection.gallery.directory import MAX_EVENT_DAYS, MAX_NEIGHBOURS, Tenant, TenantSettings


class _OrNone(click.ParamType[tuple[Any]]):
    """A number, or ``none`` for the installation's."""

    def __init__(self, number: click.ParamType[Any]) -> None:
        self._number = number
        self.name = f"{number.name} or none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any]:
        # Wrapped, since click takes None for an option that was not given.
        return (None,) if value == "none" else (self._number.convert(value, param, ctx),)


_OPTIONS = (
    click.option(
        "--min-distance",
        type=_OrNone(click.FLOAT),
        help="Threshold of requests that name none; none takes the installation's.",
    ),
    click.option("--rule", type=click.Choice(["nearest", "vote"]), help="How a face is named."),
    click.option("--neighbours", type=click.IntRange(1, MAX_NEIGHBOURS), help="How many samples vote."),
    click.option("--keep-crops/--no-keep-crops", default=None, help="Whether events keep the aligned face."),
    click.option(
        "--event-days",
        type=_OrNone(click.IntRange(0, MAX_EVENT_DAYS)),
        help="Days for which events are kept; none takes the installation's.",
    ),
)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[0] if isinstance(value, tuple) else value for name, value in options.items() if value is not None
    }


@click.group()
def companies() -> None:
    """Companies: each has people, keys, sectors and devices of its own."""


@companies.command(epilog="Example: python -m face_detection companies add 1042 'Acme Ltd.' --min-distance 8")
@click.argument("company")
@click.argument("name")
@_with_settings
def add(company: str, name: str, **options: Any) -> None:
    """Add a company: its code and its name."""
    with opened() as gallery:
        gallery.directory.create_tenant(company, name, TenantSettings(**_given(options)))


@companies.command("list")
@as_json
def list_companies(as_json: bool) -> None:
    """List companies with their settings."""
    with opened() as gallery:
        found = gallery.directory.tenants()
    print_list([_row(tenant) for tenant in found], as_json)


@companies.command("set", epilog="Example: python -m face_detection companies set 1042 --rule vote --event-days none")
@click.argument("company")
@click.option("--name", help="What it is called.")
@_with_settings
def change(company: str, name: str | None, **options: Any) -> None:
    """Rename a company or change its settings; what is left out stays."""
    with opened() as gallery:
        gallery.directory.update_tenant(company, name, _given(options))


@companies.command()
@click.argument("company")
def remove(company: str) -> None:
    """Remove a company with its keys, sectors, devices and events. It must have no people."""
    with opened() as gallery:
        gallery.directory.delete_tenant(company)


def _row(tenant: Tenant) -> dict[str, object]:
    return {
        "company": tenant.id,
        "name": tenant.name,
        **asdict(tenant.settings),
        "created_at": tenant.created_at,
    }
