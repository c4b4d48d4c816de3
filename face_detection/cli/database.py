"""python -m face_detection compact, backup, restore, migrate, migrate-database, rebuild-search"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import click
from tqdm import tqdm

from face_detection.cli.service import opened_gallery, refusals
from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery import Gallery, is_postgres, open_gallery
from face_detection.gallery.remote.follower import rebuild
from face_detection.gallery.remote.index import VectorIndex
from face_detection.gallery.remote.other_spaces import drop_former
from face_detection.gallery.searchers import check_address, lock_of, open_index
from face_detection.gallery.sql.history import BATCH
from face_detection.gallery.sql.tables import TABLES, Table, copy
from face_detection.gallery.sqlite import backup as copies
from face_detection.gallery.sqlite.migrations import STEPS
from face_detection.upkeep import removable
from shared.errors import SettingsError
from shared.models import Metric
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
    with opened_gallery() as gallery:
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
    with refusals(explained=True):
        size = copies.back_up(database, file, force)
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
    with refusals(explained=True):
        former = copies.restore(file, database)
    click.echo(f"{database} is restored.")
    if former is not None:
        click.echo(f"The former database is {former}; delete it when you do not need it any more.")


def _database_file(file: Path) -> Path:
    with refusals(explained=True):
        database = FrontSettings.from_environment().database
    if is_postgres(database):
        raise click.ClickException(_POSTGRES.format(file=file))
    if database == ":memory:" or "://" in database:
        raise click.ClickException("DATABASE must be a path.")
    return Path(database)


@click.command()
def migrate() -> None:
    """Bring the database to the schema of this release, or create it; the service does the same when it starts.

    One that is up to date is left as it is, and one that a newer release has migrated is refused.
    """
    with opened_gallery():
        click.echo(f"The database has the schema of this release: {len(STEPS)} migrations, last {STEPS[-1].__name__}.")


@click.command("migrate-database")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def migrate_database(source: str, target: str) -> None:
    """Copy everything from one database into an empty one: from SQLite to PostgreSQL, or back.

    FROM and TO are what DATABASE may be: paths or addresses such as postgresql://user@host/name. (A password on a
    command line is seen by others on the machine: put it into PGPASSWORD or ~/.pgpass.) Stop the services first.

    An interrupted copy is continued by the same command. In the end both databases are compared, row by row.
    """
    with refusals(explained=True), ExitStack() as open_databases:
        origin = _opened(open_databases, source, must_exist=True)
        destination = _opened(open_databases, target)
        total = sum(origin.tables.count(table) for table in TABLES)
        with tqdm(total=total, unit=" rows", disable=None, dynamic_ncols=True, leave=False) as bar:

            def progress(table: Table, rows: int) -> None:
                bar.set_description(table.name, refresh=False)
                bar.update(rows)

            counts = copy(origin.tables, destination.tables, progress)
    for name, count in counts.items():
        click.echo(f"{name:10}{count:>12,}")
    click.echo("Both databases have the same rows.")


def _opened(open_databases: ExitStack, database: str, must_exist: bool = False) -> Gallery:
    if database == ":memory:":
        raise SettingsError("A database in memory cannot be copied.")
    if must_exist and not is_postgres(database) and not Path(database).is_file():
        raise SettingsError(f"There is no database {database}." if "://" not in database else "FROM is not a database.")
    gallery = open_gallery(database)
    open_databases.callback(gallery.close)
    return gallery


@click.command("rebuild-search")
@click.option("--drop-former", "only_drop", is_flag=True, help="Only drop the indexes of models that were used before.")
def rebuild_search(only_drop: bool) -> None:
    """Make the search index of SEARCH=pgvector or SEARCH=milvus again from the database.

    The services may run: they search the present index until the new one is complete, and miss nothing meanwhile. The
    extraction service must run, too: it says which model's embeddings to take. With SEARCH=memory there is nothing to
    rebuild: every process makes its index when it starts.

    With --drop-former only the indexes of all other models are dropped, which frees their room. Do that when no service
    works with a former model any more: such a service would make its index again.
    """
    with opened_gallery() as gallery:
        settings = FrontSettings.from_environment()
        if settings.search == "memory":
            raise SettingsError("SEARCH=memory keeps nothing that could be rebuilt.")
        check_address(settings)
        model = asyncio.run(_served_model(settings))
        metric = settings.distance or model.card.metric
        index = open_index(settings, gallery, model.space, model.card.dimensions, metric)
        with closing(index):
            if only_drop:
                _drop_former(gallery, index, model.space)
            else:
                _rebuild(gallery, index, model.space, metric)


def _rebuild(gallery: Gallery, index: VectorIndex, space: str, metric: Metric) -> None:
    with tqdm(unit=" changes", disable=None, dynamic_ncols=True, leave=False) as bar:

        def progress(applied: int, last: int) -> None:
            bar.total = last
            bar.update(applied - bar.n)

        position = rebuild(gallery.store, gallery.locks, lock_of(gallery, space, metric), index, progress)
    click.echo(f"The search index of {space} has all changes up to {position}.")


def _drop_former(gallery: Gallery, index: VectorIndex, space: str) -> None:
    outcomes = list(drop_former(gallery.locks, index))
    for name, reason in outcomes:
        if reason:
            click.echo(f"Kept the search index {name}: {reason}", err=True)
        else:
            click.echo(f"Dropped the search index {name}.")
    if not outcomes:
        click.echo(f"There is no search index but that of {space}.")
    if any(reason for _, reason in outcomes):
        sys.exit(1)


async def _served_model(settings: FrontSettings) -> ServedModel:
    client = ExtractionClient(settings.extraction_urls, settings.extraction_timeout)
    try:
        return await client.model()
    finally:
        await client.close()
