"""python -m face_detection rebuild-search"""

from __future__ import annotations

import asyncio

import click
from tqdm import tqdm

from face_detection.cli.console import opened
from face_detection.extraction import ExtractionClient, ServedModel
from face_detection.gallery.projector import rebuild
from face_detection.gallery.searchers import check_address, open_index, turn_of
from shared.errors import SettingsError
from shared.settings import FrontSettings


@click.command("rebuild-search")
def rebuild_search() -> None:
    """Make the search index of SEARCH=pgvector or SEARCH=milvus again from the database.

    The services may run: they search the present index until the new one is complete, and miss nothing meanwhile. The
    extraction service must run, too: it says which model's embeddings to take. With SEARCH=memory there is nothing to
    rebuild: every process makes its index when it starts.
    """
    with opened() as gallery:
        settings = FrontSettings.from_environment()
        if settings.search == "memory":
            raise SettingsError("SEARCH=memory keeps nothing that could be rebuilt.")
        check_address(settings)
        model = asyncio.run(_served_model(settings))
        metric = settings.distance or model.card.metric
        index = open_index(settings, gallery, model.space, model.card.dimensions, metric)
        try:
            with tqdm(unit=" changes", disable=None, dynamic_ncols=True, leave=False) as bar:

                def progress(applied: int, last: int) -> None:
                    bar.total = last
                    bar.update(applied - bar.n)

                position = rebuild(gallery.store, gallery.turns, turn_of(gallery, model.space, metric), index, progress)
        finally:
            index.close()
    click.echo(f"The search index of {model.space} has all changes up to {position}.")


async def _served_model(settings: FrontSettings) -> ServedModel:
    client = ExtractionClient(settings.extraction_urls, settings.extraction_timeout)
    try:
        return await client.model()
    finally:
        await client.close()
