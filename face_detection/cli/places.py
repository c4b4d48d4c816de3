"""python -m face_detection sectors, python -m face_detection devices"""

from __future__ import annotations

import click

from face_detection.cli.console import CODE, as_json, opened, print_list
from face_detection.gallery.directory import Device, Sector


@click.group()
def sectors() -> None:
    """Sectors: parts of a company's premises."""


@sectors.command("add", epilog="Example: python -m face_detection sectors add 1042 7 'Ground floor'")
@click.argument("company")
@click.argument("code", type=CODE)
@click.argument("name")
def add_sector(company: str, code: int, name: str) -> None:
    """Add a sector to a company, or rename it."""
    with opened() as gallery:
        gallery.directory.put_sector(Sector(company, code, name))


@sectors.command("list")
@click.argument("company")
@as_json
def list_sectors(company: str, as_json: bool) -> None:
    """List a company's sectors."""
    with opened() as gallery:
        found = gallery.directory.sectors(company)
    print_list([{"code": sector.code, "name": sector.name} for sector in found], as_json)


@sectors.command("remove")
@click.argument("company")
@click.argument("code", type=CODE)
def remove_sector(company: str, code: int) -> None:
    """Remove a sector in which no devices stand."""
    with opened() as gallery:
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
    with opened() as gallery:
        gallery.directory.put_device(Device(company, code, name, sector))


@devices.command("list")
@click.argument("company")
@as_json
def list_devices(company: str, as_json: bool) -> None:
    """List a company's devices."""
    with opened() as gallery:
        found = gallery.directory.devices(company)
    print_list([{"code": one.code, "name": one.name, "sector": one.sector} for one in found], as_json)


@devices.command("remove")
@click.argument("company")
@click.argument("code", type=CODE)
def remove_device(company: str, code: int) -> None:
    """Remove a device."""
    with opened() as gallery:
        gallery.directory.delete_device(company, code)
