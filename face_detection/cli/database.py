"""python -m face_detection compact, backup, restore"""

from __future__ import annotations

from pathlib import Path

import click

from face_detection.cli.console import opened
from face_detection.gallery import is_postgres
from face_detection.gallery.sql.tombstones import BATCH
from face_detection.gallery.sqlite import backup as copies
from face_detection.upkeep import removable
from shared.errors import ServiceError, SettingsError
from shared.settings import FrontSettings

_FILE = click.Path(dir_okay=False, path_type=Path)

_POSTGRES = """\
DATABASE is a PostgreSQL database, which has tools of its own:
  pg_dump --format custom --file {file} 'postgresql://USER@HOST/NAME'
  pg_restore --clean --if-exists --single-transaction --dbname 'postgresql://USER@HOST/NAME' {file}
Stop the fronts before pg_restore. See docs/databases.md."""


@click.command()
def compact() -> None:
    """Rewrite the database so that its files hold no remains of what was deleted.

    Tombstones of deletions that are older than SYNC_DAYS are removed, too. Writers wait meanwhile. If the service is
    busy at that moment, the files stay as they are and the exit code is 1.
    """
    with opened() as gallery:
        before = removable(FrontSettings.from_environment().sync_days)
        while gallery.tombstones.remove(before) == BATCH:
            pass
        gallery.store.compact()


@click.command(epilog="Example: python -m face_detection backup /mnt/backups/gallery-2026-11-28.db")
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Overwrite FILE if it is there.")
def backup(file: Path, force: bool) -> None:
    """Copy the database to FILE, also while the service runs.

    FILE appears when it is complete, verified and on disk, readable by its owner only. It holds everything: people,
    embeddings, events, companies, and the hashes of keys. A copy of the file alone, made by other means, would miss
    what is still in the write-ahead log.
    """
    database = _database_file(file)
    if not database.is_file():
        raise click.ClickException(f"There is no database {database}.")
    try:
        size = copies.back_up(database, file, force)
    except ServiceError as error:
        raise click.ClickException(error.explained) from error
    click.echo(f"{file}: {size:,} bytes, verified.")


@click.command(epilog="Example: python -m face_detection restore /mnt/backups/gallery-2026-11-28.db")
@click.argument("file", type=_FILE)
def restore(file: Path) -> None:
    """Put FILE, which backup made, in the place of the database. Stop the service first.

    The former database is kept beside it under another name. Clients and search indexes that had followed it begin
    anew, since what they know may not be in the restored one.
    """
    database = _database_file(file)
    if not file.is_file():
        raise click.ClickException(f"There is no file {file}.")
    try:
        former = copies.restore(file, database)
    except ServiceError as error:
        raise click.ClickException(error.explained) from error
    click.echo(f"{database} is restored.")
    if former is not None:
        click.echo(f"The former database is {former}; delete it when you do not need it any more.")


def _database_file(file: Path) -> Path:
    try:
        database = FrontSettings.from_environment().database
    except SettingsError as error:
        raise click.ClickException(error.explained) from error
    if is_postgres(database):
        raise click.ClickException(_POSTGRES.format(file=file))
    if database == ":memory:" or "://" in database:
        raise click.ClickException("DATABASE must be a path.")
    return Path(database)
