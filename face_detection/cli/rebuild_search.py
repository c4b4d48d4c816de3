"""python -m face_detection rebuild-search"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing

import click
from tqdm import tqdm

from face_detection.cli.console import opened
from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery import Gallery
from face_detection.gallery.remote.follower import rebuild
from face_detection.gallery.remote.index import VectorIndex
from face_detection.gallery.remote.other_spaces import drop_former
from face_detection.gallery.searchers import check_address, open_index, turn_of
from shared.errors import SettingsError
from shared.models import Metric
from shared.settings import FrontSettings


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
    with opened() as gallery:
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

        position = rebuild(gallery.store, gallery.turns, turn_of(gallery, space, metric), index, progress)
    click.echo(f"The search index of {space} has all changes up to {position}.")


def _drop_former(gallery: Gallery, index: VectorIndex, space: str) -> None:
    outcomes = list(drop_former(gallery.turns, index))
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
