"""python -m face_detection migrate-database"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click
from tqdm import tqdm

from face_detection.gallery import Gallery, is_postgres, open_gallery
from face_detection.gallery.sql.tables import TABLES, Table, copy
from shared.errors import ServiceError, SettingsError


@click.command("migrate-database")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def migrate_database(source: str, target: str) -> None:
    """Copy everything from one database into an empty one: from SQLite to PostgreSQL, or back.

    FROM and TO are what DATABASE may be: paths or addresses such as postgresql://user@host/name. (A password on a
    command line is seen by others on the machine: put it into PGPASSWORD or ~/.pgpass.) Stop the services first.

    An interrupted copy is continued by the same command. In the end both databases are compared, row by row.
    """
    try:
        with ExitStack() as open_databases:
            origin = _opened(open_databases, source, must_exist=True)
            destination = _opened(open_databases, target)
            total = sum(origin.tables.count(table) for table in TABLES)
            with tqdm(total=total, unit=" rows", disable=None, dynamic_ncols=True, leave=False) as bar:

                def progress(table: Table, rows: int) -> None:
                    bar.set_description(table.name, refresh=False)
                    bar.update(rows)

                counts = copy(origin.tables, destination.tables, progress)
    except ServiceError as error:
        raise click.ClickException(error.explained) from error
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
