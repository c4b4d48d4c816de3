"""The client of the extraction service against servers that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import requests
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray

from face_detection.extraction.client import ExtractionClient
from shared import wire
from shared.errors import (
    DeadlinePassed,
    ExtractionFailed,
    ExtractionUnavailable,
    LivenessUnavailable,
    Overloaded,
    ServiceError,
)
from tests.face_detection.extraction.fake_workers import CARD, MODEL, SERVED, FakeWorker, Handler, replying


@pytest.fixture
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (7, 160, 160, 3), np.uint8)


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeWorker]:
    fake = FakeWorker()
    await fake.server.start_server()
    yield fake
    await fake.server.close()


@pytest_asyncio.fixture
async def client(fake: FakeWorker) -> AsyncIterator[ExtractionClient]:
    client = ExtractionClient([fake.url], timeout=1)
    yield client
    await client.close()


async def test_the_model_is_asked_for_once(client: ExtractionClient, fake: FakeWorker) -> None:
    assert await client.model() == await client.model() == SERVED
    assert fake.calls == ["/model"]


async def test_many_crops_are_split_and_keep_their_order(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8]
) -> None:
    embeddings = await client.embed(crops, SERVED)
    assert np.array_equal(embeddings, crops.reshape(7, -1)[:, :128].astype(np.float32))
    assert fake.calls == ["/embeddings"] * 3
    assert (await client.embed(crops[:0], SERVED)).shape == (0, 128)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (replying(429), Overloaded),
        (replying(500), ExtractionFailed),
        (replying(404), ExtractionFailed),
        (replying(502), ExtractionUnavailable),
        (replying(503), ExtractionUnavailable),
        (replying(504), DeadlinePassed),
        (replying(400), ExtractionUnavailable),
        (replying(200, b"not an array"), ExtractionFailed),
        (replying(200, wire.encode_array(np.zeros((7, 64), np.float32))), ExtractionFailed),
        (replying(200, wire.encode_array(np.zeros((2, 128), np.float32))), ExtractionFailed),
        (replying(200, wire.encode_array(np.zeros((3, 128), np.float64))), ExtractionFailed),
        (
            replying(200, wire.encode_array(np.zeros((3, 128), np.float32)), **{wire.SPACE_HEADER: "sface/x/y/z"}),
            ExtractionUnavailable,
        ),
    ],
)
async def test_bad_answers(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8], handler: Handler, expected: type[ServiceError]
) -> None:
    fake.embeddings = handler
    with pytest.raises(expected) as caught:
        await client.embed(crops, SERVED)
    assert caught.value.retry_after or expected not in (Overloaded, ExtractionUnavailable)
    assert len(fake.calls) == 1


async def test_a_changed_model_is_noticed_and_asked_for_again(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8]
) -> None:
    await client.model()
    fake.model = replying(200, json.dumps(MODEL | {"revision": "new", "space": CARD.space("new")}).encode())
    fake.embeddings = replying(
        200, wire.encode_array(np.zeros((3, 128), np.float32)), **{wire.SPACE_HEADER: CARD.space("new")}
    )
    with pytest.raises(ExtractionUnavailable, match="changed its model"):
        await client.embed(crops, await client.model())
    assert (await client.model()).revision == "new"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"nonsense",
        json.dumps(MODEL | {"model": "unheard-of"}).encode(),
        json.dumps(MODEL | {"dimensions": 64}).encode(),
        json.dumps(MODEL | {"width": 224}).encode(),
        json.dumps(MODEL | {"space": "facenet/abc/other"}).encode(),
        json.dumps({name: value for name, value in MODEL.items() if name != "revision"}).encode(),
    ],
)
async def test_a_model_that_cannot_be_used(client: ExtractionClient, fake: FakeWorker, answer: bytes) -> None:
    fake.model = replying(200, answer)
    with pytest.raises(ExtractionFailed):
        await client.model()
    fake.model = fake.describe
    assert await client.model() == SERVED


async def test_silence_ends_with_the_deadline(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8]
) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    fake.embeddings = hang
    async with asyncio.timeout(3):
        with pytest.raises(DeadlinePassed):
            await client.embed(crops, SERVED)
    assert len(fake.calls) == 1


async def test_nobody_there_and_back_again(unused_tcp_port: int, crops: NDArray[np.uint8]) -> None:
    client = ExtractionClient([f"http://127.0.0.1:{unused_tcp_port}"], timeout=1)
    with pytest.raises(ExtractionUnavailable):
        await client.model()
    fake = FakeWorker()
    fake.server = TestServer(fake.server.app, port=unused_tcp_port)
    await fake.server.start_server()
    assert (await client.embed(crops, await client.model())).shape == (7, 128)
    await fake.server.close()
    with pytest.raises(ExtractionUnavailable):
        await client.embed(crops, SERVED)
    await client.close()


async def test_a_dropped_connection_is_tried_once_more(crops: NDArray[np.uint8]) -> None:
    connections = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ExtractionClient([f"http://127.0.0.1:{port}"], timeout=2)
    with pytest.raises(ExtractionUnavailable):
        await client.embed(crops[:1], SERVED)
    assert connections == 2
    await client.close()
    server.close()
    await server.wait_closed()


def test_the_description_used_here_has_the_members_of_a_real_one(extraction_url: str) -> None:
    answer: dict[str, Any] = requests.get(f"{extraction_url}/model", timeout=10).json()
    assert set(answer) == set(MODEL)


@pytest.fixture
def views() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 255, (7, 2, 80, 80, 3), np.uint8)


async def test_faces_are_checked_beside_their_embedding(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8], views: NDArray[np.uint8]
) -> None:
    fake.liveness = fake.check
    embeddings, scores = await client.examine(crops, views, SERVED)
    assert np.array_equal(embeddings, await client.embed(crops, SERVED))
    assert scores == pytest.approx(views[:, 0, 0, 0, 0] / 255, abs=1e-6)
    assert fake.calls.count("/liveness") == 3
    _, none = await client.examine(crops, None, SERVED)
    assert none is None and fake.calls.count("/liveness") == 3


async def test_a_service_without_the_liveness_check(
    client: ExtractionClient, crops: NDArray[np.uint8], views: NDArray[np.uint8]
) -> None:
    with pytest.raises(LivenessUnavailable, match="LIVENESS=available"):
        await client.examine(crops, views, SERVED)


async def test_scores_that_are_none(
    client: ExtractionClient, fake: FakeWorker, crops: NDArray[np.uint8], views: NDArray[np.uint8]
) -> None:
    fake.liveness = replying(200, wire.encode_array(np.zeros(2, np.float32)))
    with pytest.raises(ExtractionFailed, match="did not answer with scores"):
        await client.examine(crops, views, SERVED)
