"""python -m face_detection companies, sectors, devices, keys"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from face_detection.access import Access
from face_detection.cli.console import print_list
from face_detection.cli.parameters import CODE, RATE, json_option
from face_detection.cli.service import opened_gallery
from face_detection.gallery import Gallery
from face_detection.gallery.directory import (
    DEFAULT_TENANT,
    MAX_EVENT_DAYS,
    MAX_INTEGER,
    MAX_NEIGHBOURS,
    MAX_REQUESTS_PER_MINUTE,
    ApiKey,
    Device,
    Right,
    Sector,
    Tenant,
    TenantSettings,
)
from shared.errors import NotFound


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
    click.option(
        "--false-match-rate",
        type=_OrNone(RATE),
        help="Instead of a distance the rate at which strangers may be named; none takes the installation's.",
    ),
    click.option("--rule", type=click.Choice(["nearest", "vote"]), help="How a face is named."),
    click.option("--neighbours", type=click.IntRange(1, MAX_NEIGHBOURS), help="How many samples vote."),
    click.option("--keep-crops/--no-keep-crops", default=None, help="Whether events keep the aligned face."),
    click.option(
        "--event-days",
        type=_OrNone(click.IntRange(0, MAX_EVENT_DAYS)),
        help="Days for which events are kept; none takes the installation's.",
    ),
    click.option(
        "--liveness",
        type=click.Choice(["optional", "required"]),
        help="Whether only faces that pass the liveness check are named.",
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
    with opened_gallery() as gallery:
        gallery.directory.create_tenant(company, name, TenantSettings(**_given(options)))


@companies.command("list")
@json_option()
def list_companies(as_json: bool) -> None:
    """List companies with their settings."""
    with opened_gallery() as gallery:
        found = gallery.directory.tenants()
    print_list([_company_row(tenant) for tenant in found], as_json)


@companies.command("set", epilog="Example: python -m face_detection companies set 1042 --rule vote --event-days none")
@click.argument("company")
@click.option("--name", help="What it is called.")
@_with_settings
def change(company: str, name: str | None, **options: Any) -> None:
    """Rename a company or change its settings; what is left out stays."""
    with opened_gallery() as gallery:
        gallery.directory.update_tenant(company, name, _given(options))


@companies.command()
@click.argument("company")
def remove(company: str) -> None:
    """Remove a company with its keys, sectors, devices and events. It must have no people."""
    with opened_gallery() as gallery:
        gallery.directory.delete_tenant(company)


@click.group()
def collections() -> None:
    """Collections: several galleries of a company."""


_company_option = click.option("--company", default=DEFAULT_TENANT, show_default=True, help="Code of the company.")


@collections.command("list")
@_company_option
@json_option()
def list_collections(company: str, as_json: bool) -> None:
    """List collections."""
    with opened_gallery() as gallery:
        gallery.directory.tenant(company)
        found = gallery.collections.page(company).collections
    rows = [{"collection": one.name, "company": one.tenant, "created_at": one.created_at} for one in found]
    print_list(rows, as_json)


@collections.command("create", epilog="Example: python -m face_detection collections create visitors --company 1042")
@click.argument("name")
@_company_option
def create_collection(name: str, company: str) -> None:
    """Create a collection."""
    with opened_gallery() as gallery:
        gallery.collections.create(company, name)


@collections.command("delete")
@click.argument("name")
@_company_option
def delete_collection(name: str, company: str) -> None:
    """Delete a collection with its people, photos and events."""
    with opened_gallery() as gallery:
        gallery.collections.delete(company, name)


def _company_row(tenant: Tenant) -> dict[str, object]:
    return {
        "company": tenant.id,
        "name": tenant.name,
        **{name: value for name, value in asdict(tenant.settings).items() if name != "calibration"},
        "created_at": tenant.created_at,
    }


@click.group()
def sectors() -> None:
    """Sectors: parts of a company's premises."""


@sectors.command("add", epilog="Example: python -m face_detection sectors add 1042 7 'Ground floor'")
@click.argument("company")
@click.argument("code", type=CODE)
@click.argument("name")
def add_sector(company: str, code: int, name: str) -> None:
    """Add a sector to a company, or rename it."""
    with opened_gallery() as gallery:
        gallery.directory.put_sector(Sector(company, code, name))


@sectors.command("list")
@click.argument("company")
@json_option()
def list_sectors(company: str, as_json: bool) -> None:
    """List a company's sectors."""
    with opened_gallery() as gallery:
        found = gallery.directory.sectors(company)
    print_list([{"code": sector.code, "name": sector.name} for sector in found], as_json)


@sectors.command("remove")
@click.argument("company")
@click.argument("code", type=CODE)
def remove_sector(company: str, code: int) -> None:
    """Remove a sector in which no devices stand."""
    with opened_gallery() as gallery:
        gallery.directory.delete_sector(company, code)


@click.group()
def devices() -> None:
    """Capture devices: cameras, doors, time clocks."""


@devices.command("add", epilog="Example: python -m face_detection devices add 1042 31 'Front door' --sector 7")
@click.argument("company")
@click.argument("code", type=CODE)
@click.argument("name")
@click.option("--sector", type=CODE, help="Code of the sector that it stands in; none when left out.")
def add_device(company: str, code: int, name: str, sector: int | None) -> None:
    """Add a device to a company, or give it another name and sector."""
    with opened_gallery() as gallery:
        gallery.directory.put_device(Device(company, code, name, sector))


@devices.command("list")
@click.argument("company")
@json_option()
def list_devices(company: str, as_json: bool) -> None:
    """List a company's devices."""
    with opened_gallery() as gallery:
        found = gallery.directory.devices(company)
    print_list([{"code": one.code, "name": one.name, "sector": one.sector} for one in found], as_json)


@devices.command("remove")
@click.argument("company")
@click.argument("code", type=CODE)
def remove_device(company: str, code: int) -> None:
    """Remove a device."""
    with opened_gallery() as gallery:
        gallery.directory.delete_device(company, code)


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a date like 2027-01-31 or a time like 2027-01-31T18:00+01:00.", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


@click.group()
def keys() -> None:
    """API keys."""


@keys.command(
    epilog="""\b
Examples:
  python -m face_detection keys create operator --right admin
  python -m face_detection keys create 'door cameras' --company 1042 --right recognise
  python -m face_detection keys create reception --company 1042 --right enrol --max-samples 5000 --expires 2027-12-31
"""
)
@click.argument("name")
@click.option("--company", default=DEFAULT_TENANT, show_default=True, help="Code of the company whose key it is.")
@click.option(
    "--right",
    "rights",
    type=click.Choice([right.value for right in Right]),
    multiple=True,
    required=True,
    help="What it allows; may be given several times. admin includes the others.",
)
@click.option(
    "--requests-per-minute",
    type=click.IntRange(1, MAX_REQUESTS_PER_MINUTE),
    help="Most requests within any 60 seconds, for each process of the front.",
)
@click.option(
    "--max-samples", type=click.IntRange(0, MAX_INTEGER), help="Samples up to which it may fill the company's gallery."
)
@click.option("--expires", type=_Time(), help="ISO 8601; UTC unless it names another time zone.")
def create(
    name: str,
    company: str,
    rights: tuple[str, ...],
    requests_per_minute: int | None,
    max_samples: int | None,
    expires: datetime | None,
) -> None:
    """Make a key, and print its text, which cannot be shown again.

    Whoever has an admin key of the company "default" operates the whole installation.
    """
    with opened_gallery() as gallery:
        key, text = _access(gallery).create_key(
            company,
            name,
            [Right(right) for right in rights],
            requests_per_minute=requests_per_minute,
            max_samples=max_samples,
            expires_at=expires,
        )
    _show(key, text)


@keys.command("list")
@click.option("--company", help="Code of a company; all when left out.")
@json_option()
def list_keys(company: str | None, as_json: bool) -> None:
    """List keys, without their secrets."""
    with opened_gallery() as gallery:
        found = gallery.directory.keys(company)
    print_list([_key_row(key) for key in found], as_json)


@keys.command()
@click.argument("id")
def rotate(id: str) -> None:
    """Give a key another secret, and print its new text; the former one is void at once."""
    with opened_gallery() as gallery:
        key, text = _access(gallery).rotate_key(_tenant_of(gallery, id), id)
    _show(key, text)


@keys.command()
@click.argument("id")
def revoke(id: str) -> None:
    """Revoke a key for good."""
    with opened_gallery() as gallery:
        gallery.directory.revoke_key(_tenant_of(gallery, id), id)


def _access(gallery: Gallery) -> Access:
    return Access(gallery.directory, allow_anonymous=False)


def _tenant_of(gallery: Gallery, id: str) -> str:
    stored = gallery.directory.find_key(id)
    if stored is None:
        raise NotFound("There is no such key.")
    return stored.key.tenant


def _show(key: ApiKey, text: str) -> None:
    click.echo(text)
    click.echo(f"This is the text of the key {key.id}. It is not shown again: keep it safe.", err=True)


def _key_row(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "company": key.tenant,
        "name": key.name,
        "rights": sorted(key.rights),
        "requests_per_minute": key.requests_per_minute,
        "max_samples": key.max_samples,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
