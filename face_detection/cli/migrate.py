"""python -m face_detection migrate"""

from __future__ import annotations

import click

from face_detection.cli.console import opened
from face_detection.gallery.sqlite.migrations import STEPS


@click.command()
def migrate() -> None:
    """Bring the database to the schema of this release, or create it; the service does the same when it starts.

    One that is up to date is left as it is, and one that a newer release has migrated is refused.
    """
    with opened():
        click.echo(f"The database has the schema of this release: {len(STEPS)} migrations, last {STEPS[-1].__name__}.")
