"""python -m face_detection watch"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from face_detection.cli.console import remark
from face_detection.cli.parameters import CODE, SECONDS, min_distance_option
from face_detection.cli.service.connection import refusals, url_option
from face_detection.live.visits import LEAVE_AFTER
from shared.signals import asked

_SECRET = "FACE_WEBHOOK_SECRET"


class _Lines:
    """Prints events as JSON lines."""

    def put(self, event: Mapping[str, Any]) -> None:
        click.echo(json.dumps(event, ensure_ascii=False))


@click.command(
    epilog="""\b
Examples:
  python -m face_detection watch film.mp4 --every 0.2
  python -m face_detection watch 0
  python -m face_detection watch rtsp://10.0.0.7/stream1 --fps 10 --device 31
  FACE_WEBHOOK_SECRET=... python -m face_detection watch 0 --webhook https://example.org/visits
"""
)
@click.argument("source")
@url_option
@min_distance_option
@click.option("--every", type=SECONDS, help="Least seconds from frame to frame.  [default: every frame]")
@click.option("--fps", type=click.FloatRange(0.001, 1000), help="The same as frames a second.")
@click.option("--device", type=CODE, help="Code of the company's capture device, for the event log.")
@click.option(
    "--leave-after",
    type=SECONDS,
    default=LEAVE_AFTER,
    show_default=True,
    help="Seconds unseen after which somebody has left; whoever is back earlier has not been away.",
)
@click.option("--webhook", metavar="URL", help=f"Post the events there too, signed with the secret in {_SECRET}.")
def watch(
    source: str,
    url: str,
    min_distance: float | None,
    every: float | None,
    fps: float | None,
    device: int | None,
    leave_after: float,
    webhook: str | None,
) -> None:
    """Tell who appears before a camera or in a video, and who leaves, as JSON lines.

    SOURCE is a file, the number of a camera, or the address of a stream (rtsp://, http://). Of a file every frame is
    worked on in order; of a camera or stream the latest, and one that is lost is opened again. Needs a running service,
    which also keeps the events.
    """
    if every and fps:
        raise click.UsageError("--every and --fps say the same: give one of them.")
    secret = os.environ.get(_SECRET, "")
    if webhook and not secret:
        raise click.UsageError(f"--webhook needs a secret in {_SECRET}.")
    if webhook and not re.match(r"https?://[^/?#]", webhook):
        raise click.UsageError("--webhook must be an address like https://example.org/visits.")
    settings = {
        name: value for name, value in (("min_distance", min_distance), ("device", device)) if value is not None
    }
    key = os.environ.get("FACE_API_KEY", "").strip() or None
    period = every or (1 / fps if fps else 0.0)
    with refusals():
        asyncio.run(_run(source, period, max(leave_after, 2 * period), url, key, settings, (webhook, secret)))


async def _run(
    source: str,
    period: float,
    patience: float,
    url: str,
    key: str | None,
    settings: Mapping[str, Any],
    hook: tuple[str | None, str],
) -> None:
    # They bring OpenCV and an HTTP client along, which other commands need not wait for.
    from face_detection.cli.video.watching import EventSink, watch
    from face_detection.cli.video.webhook import Webhook

    webhook = Webhook(hook[0], hook[1], remark) if hook[0] else None
    sinks: list[EventSink] = [_Lines(), *([webhook] if webhook else [])]
    this, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert this is not None
    # The first signal ends the watching, the second the wait for the webhook.
    with asked(lambda: loop.call_soon_threadsafe(this.cancel)):
        try:
            with suppress(asyncio.CancelledError):
                await watch(source, period, patience, url, key, settings, sinks, remark)
        finally:
            if webhook:
                await webhook.close()
        if webhook and webhook.lost:
            raise click.ClickException(f"The webhook did not take {webhook.lost} of {webhook.events} events.")
