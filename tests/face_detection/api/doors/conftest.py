"""What tests of doors share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from face_detection.app import create_app
from shared.settings import FrontSettings


@pytest.fixture
def front_now(front_settings: FrontSettings) -> Iterator[tuple[asyncio.Runner, TestClient]]:
    """A front for examples that are made outside of any event loop, and the loop that it runs in."""

    async def start() -> TestClient:
        client = TestClient(TestServer(create_app(front_settings)))
        await client.start_server()
        return client

    with asyncio.Runner() as runner:
        client = runner.run(start())
        yield runner, client
        runner.run(client.close())
