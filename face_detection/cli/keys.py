"""python -m face_detection keys"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from face_detection.access import Access
from face_detection.cli.console import as_json, opened, print_list
from face_detection.gallery import Gallery
from face_detection.gallery.directory import DEFAULT_TENANT, MAX_INTEGER, MAX_REQUESTS_PER_MINUTE, ApiKey, Right
from shared.errors import NotFound


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
    with opened() as gallery:
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
@as_json
def list_keys(company: str | None, as_json: bool) -> None:
    """List keys, without their secrets."""
    with opened() as gallery:
        found = gallery.directory.keys(company)
    print_list([_row(key) for key in found], as_json)


@keys.command()
@click.argument("id")
def rotate(id: str) -> None:
    """Give a key another secret, and print its new text; the former one is void at once."""
    with opened() as gallery:
        key, text = _access(gallery).rotate_key(_tenant_of(gallery, id), id)
    _show(key, text)


@keys.command()
@click.argument("id")
def revoke(id: str) -> None:
    """Revoke a key for good."""
    with opened() as gallery:
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


def _row(key: ApiKey) -> dict[str, object]:
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
