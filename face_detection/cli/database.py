"""python -m face_detection compact"""

from __future__ import annotations

import click

from face_detection.cli.console import opened


@click.command()
def compact() -> None:
    """Rewrite the database so that its files hold no remains of what was deleted.

    Writers wait meanwhile. If the service is busy at that moment, nothing is done and the exit code is 1.
    """
    with opened() as gallery:
        gallery.store.compact()
