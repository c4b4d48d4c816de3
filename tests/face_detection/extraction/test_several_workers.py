"""The client of the extraction service before several workers, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray

from face_detection.extraction import http
from face_detection.extraction.client import ExtractionClient
from face_detection.extraction.workers import State, Worker
from shared import wire
from shared.errors import DeadlinePassed, ExtractionFailed, ExtractionUnavailable, NotFound, Overloaded, ServiceError
from tests.face_detection.extraction.fake_workers import CARD, SERVED, FakeWorker, Handler, replying

NEW = CARD.space("new")

Start = Callable[..., Awaitable[tuple[ExtractionClient, list[FakeWorker]]]]


@pytest.fixture
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), np.uint8)


@pytest.fixture
def seen() -> list[Mapping[str, int]]:
    """What was told of the numbers of workers."""
    return []


@pytest_asyncio.fixture
async def start(seen: list[Mapping[str, int]]) -> AsyncIterator[Start]:
    """Starts workers, by their revisions, and a client of all; ``others`` are further addresses, in front."""
    started: list[FakeWorker] = []
    clients: list[ExtractionClient] = []

    async def run(
        *revisions: str, others: tuple[str, ...] = (), timeout: float = 5
    ) -> tuple[ExtractionClient, list[FakeWorker]]:
        fakes = [FakeWorker(revision) for revision in revisions]
        for fake in fakes:
            await fake.server.start_server()
        client = ExtractionClient([*others, *(fake.url for fake in fakes)], timeout, seen.append)
        started.extend(fakes)
        clients.append(client)
        return client, fakes

    yield run
    for client in clients:
        await client.close()
    for fake in started:
        await fake.server.close()


def rows(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return crops.reshape(len(crops), -1)[:, :128].astype(np.float32)


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Half an answer."""
    answer = web.StreamResponse(headers={wire.SPACE_HEADER: SERVED.space, "Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b"x" * 500)
    return await drop(request)


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


def embedded(fake: FakeWorker) -> int:
    return fake.calls.count("/embeddings")


async def known(client: ExtractionClient, *states: State) -> None:
    """Wait until the workers are in these states."""
    async with asyncio.timeout(10):
        while tuple(map(client._workers.state, client._workers.all)) != states:
            await asyncio.sleep(0.01)


def hurry(client: ExtractionClient, number: int) -> Worker:
    """Let the time pass after which a worker is asked again."""
    worker = client._workers.all[number]
    worker.ask_at = 0.0
    return worker


async def test_calls_are_spread(start: Start, crops: NDArray[np.uint8]) -> None:
    client, fakes = await start("abc", "abc", "abc")
    await client.model()
    await known(client, *[State.USABLE] * 3)
    for found in await asyncio.gather(*(client.embed(crops, SERVED) for _ in range(30))):
        assert np.array_equal(found, rows(crops))
    assert [embedded(fake) for fake in fakes] == [10, 10, 10]


async def test_a_slow_worker_gets_less(start: Start, crops: NDArray[np.uint8]) -> None:
    client, (slow, fast) = await start("abc", "abc")

    async def sleepy(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return await slow.embed(request)

    slow.embeddings = sleepy
    model = await client.model()

    async def go_on() -> None:
        for _ in range(10):
            assert np.array_equal(await client.embed(crops, model), rows(crops))

    await asyncio.gather(go_on(), go_on())
    assert embedded(slow) < embedded(fast) and embedded(slow) + embedded(fast) == 20


@pytest.mark.parametrize(
    "handler",
    [
        replying(429),
        replying(502),
        replying(503),
        replying(400),
        replying(200, wire.encode_array(np.zeros((2, 128), np.float32)), **{wire.SPACE_HEADER: NEW}),
        drop,
        cut,
    ],
)
async def test_what_one_worker_cannot_do_another_does(start: Start, crops: NDArray[np.uint8], handler: Handler) -> None:
    client, fakes = await start("abc", "abc")
    await client.model()
    await known(client, State.USABLE, State.USABLE)
    fakes[0].embeddings = handler
    for _ in range(4):
        assert np.array_equal(await client.embed(crops, SERVED), rows(crops))
    assert embedded(fakes[1]) == 4 and 1 <= embedded(fakes[0]) <= 4


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (replying(429), replying(429), Overloaded),
        (replying(429), drop, Overloaded),
        (replying(503), replying(429), Overloaded),
        (drop, drop, ExtractionUnavailable),
        (drop, replying(503), ExtractionUnavailable),
        (replying(400), replying(400), ExtractionUnavailable),
    ],
)
async def test_when_none_can_each_was_tried_once(
    start: Start, crops: NDArray[np.uint8], first: Handler, second: Handler, expected: type[ServiceError]
) -> None:
    client, fakes = await start("abc", "abc")
    fakes[0].embeddings, fakes[1].embeddings = first, second
    with pytest.raises(expected) as caught:
        await client.embed(crops, SERVED)
    assert caught.value.retry_after
    assert [embedded(fake) for fake in fakes] == [1, 1]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [(replying(500), ExtractionFailed), (replying(404), ExtractionFailed), (replying(504), DeadlinePassed)],
)
async def test_what_no_other_worker_would_do_is_not_repeated(
    start: Start, crops: NDArray[np.uint8], handler: Handler, expected: type[ServiceError]
) -> None:
    client, fakes = await start("abc", "abc")
    for fake in fakes:
        fake.embeddings = handler
    with pytest.raises(expected):
        await client.embed(crops, SERVED)
    assert sum(map(embedded, fakes)) == 1


async def test_one_deadline_for_all_attempts(start: Start, crops: NDArray[np.uint8]) -> None:
    client, fakes = await start("abc", "abc", "abc", timeout=1)

    async def slow_refusal(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.7)
        return web.Response(status=429)

    for fake in fakes:
        fake.embeddings = slow_refusal
    started = time.monotonic()
    with pytest.raises(DeadlinePassed):
        await client.embed(crops, SERVED)
    assert time.monotonic() - started < 2 and sum(map(embedded, fakes)) == 2
    for fake in fakes:
        fake.embeddings = hang
    with pytest.raises(DeadlinePassed):
        await client.embed(crops, SERVED)
    assert sum(map(embedded, fakes)) == 3


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a machine that is gone: it neither accepts connections nor refuses them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()


async def test_a_machine_that_is_gone_is_not_waited_for(
    start: Start, crops: NDArray[np.uint8], black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_CONNECT_SECONDS", 0.3)
    client, (fake,) = await start("abc", others=(black_hole,))
    assert np.array_equal(await client.embed(crops, SERVED), rows(crops))  # nobody was asked before
    started = time.monotonic()
    for _ in range(5):
        assert np.array_equal(await client.embed(crops, await client.model()), rows(crops))
    assert time.monotonic() - started < 0.3
    await client.check_ready()


async def test_a_worker_comes_back(
    start: Start, crops: NDArray[np.uint8], unused_tcp_port: int, seen: list[Mapping[str, int]]
) -> None:
    client, (fake,) = await start("abc", others=(f"http://127.0.0.1:{unused_tcp_port}",))
    await client.model()
    await known(client, State.RESTING, State.USABLE)
    for _ in range(3):
        await client.embed(crops, await client.model())
    late = FakeWorker()
    late.server = TestServer(late.server.app, port=unused_tcp_port)
    await late.server.start_server()
    hurry(client, 0)
    await client.model()
    await known(client, State.USABLE, State.USABLE)
    assert seen[-1] == {"usable": 2, "resting": 0, "refused": 0}
    await asyncio.gather(*(client.embed(crops, SERVED) for _ in range(4)))
    assert embedded(late) == 2
    await late.server.close()


async def test_another_space_is_refused_until_it_is_taken_back(
    start: Start, crops: NDArray[np.uint8], seen: list[Mapping[str, int]], caplog: pytest.LogCaptureFixture
) -> None:
    client, (old, new) = await start("abc", "abc")
    await client.model()
    await known(client, State.USABLE, State.USABLE)
    new.serve("new")
    for _ in range(10):
        assert (await client.model()).space == SERVED.space
        assert np.array_equal(await client.embed(crops, SERVED), rows(crops))
    assert seen[-1] == {"usable": 1, "resting": 0, "refused": 1}
    assert embedded(new) == 1 and new.calls.count("/model") == 1
    (line,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert (line.worker, line.served, line.in_use) == (new.url.rstrip("/"), NEW, SERVED.space)  # type: ignore[attr-defined]
    await client.check_ready()

    new.serve("abc")
    hurry(client, 1)
    for _ in range(3):
        await client.model()
    await known(client, State.USABLE, State.USABLE)
    assert new.calls.count("/model") == 2


async def test_the_model_follows_when_the_last_worker_has_gone_over(start: Start, crops: NDArray[np.uint8]) -> None:
    client, fakes = await start("abc", "abc", "abc")
    await client.model()
    await known(client, *[State.USABLE] * 3)
    for fake in fakes[:2]:
        fake.serve("new")
        for _ in range(3):
            await client.embed(crops, await client.model())
    assert (await client.model()).space == SERVED.space
    fakes[2].serve("new")
    with pytest.raises(ExtractionUnavailable, match="changed its model"):
        await client.embed(crops, await client.model())
    models = await asyncio.gather(*(client.model() for _ in range(20)))
    assert {model.space for model in models} == {NEW}
    await known(client, *[State.USABLE] * 3)
    assert np.array_equal(await client.embed(crops, models[0]), rows(crops))
    assert max(fake.calls.count("/model") for fake in fakes) <= 3


async def test_the_model_follows_when_the_last_worker_is_gone(start: Start, crops: NDArray[np.uint8]) -> None:
    client, (old, new) = await start("abc", "new", others=())
    client._workers.use(SERVED.space)
    assert (await client.model()).space == SERVED.space
    await known(client, State.USABLE, State.REFUSED)
    await old.server.close()
    answers = await asyncio.gather(*(client.embed(crops, SERVED) for _ in range(8)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {ExtractionUnavailable}
    models = await asyncio.gather(*(client.model() for _ in range(8)))
    assert {model.space for model in models} == {NEW}
    await client.check_ready()


async def test_one_failure_of_the_last_worker_changes_nothing(start: Start, crops: NDArray[np.uint8]) -> None:
    client, (old, new) = await start("abc", "new")
    client._workers.use(SERVED.space)
    await client.model()
    await known(client, State.USABLE, State.REFUSED)
    old.embeddings = drop
    answers = await asyncio.gather(*(client.embed(crops, SERVED) for _ in range(8)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {ExtractionUnavailable}
    old.embeddings = old.embed
    assert {(await client.model()).space for _ in range(5)} == {SERVED.space}
    assert np.array_equal(await client.embed(crops, SERVED), rows(crops))
    await known(client, State.USABLE, State.REFUSED)


async def test_who_waits_for_the_model_waits_together(start: Start) -> None:
    client, (fake,) = await start("abc", others=("http://127.0.0.1:1",))
    models = await asyncio.gather(*(client.model() for _ in range(50)))
    assert models == [SERVED] * 50 and fake.calls == ["/model"]
    await fake.server.close()
    client, _ = await start(others=("http://127.0.0.1:1", "http://127.0.0.1:2"))
    failures = await asyncio.gather(*(client.model() for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in failures] == [ExtractionUnavailable] * 5


async def test_the_smallest_request_that_all_take(start: Start, crops: NDArray[np.uint8]) -> None:
    client, (_, small) = await start("abc", "abc")
    small.described["max_crops"] = 1
    await client.model()
    await known(client, State.USABLE, State.USABLE)
    model = await client.model()
    assert model.max_crops == 1
    assert np.array_equal(await client.embed(crops, model), rows(crops))


async def test_ready_while_one_worker_is(start: Start) -> None:
    client, (first, second) = await start("abc", "abc")
    first.ready = replying(503)
    for _ in range(3):
        await client.check_ready()
    second.ready = replying(503)
    with pytest.raises(ExtractionUnavailable, match="not ready"):
        await client.check_ready()


async def test_the_file_comes_from_a_worker_that_has_it(start: Start) -> None:
    client, (first, second) = await start("abc", "abc")
    model = await client.model()
    with pytest.raises(NotFound, match="no ONNX file"):
        async with client.model_file(model, "facenet"):
            pass
    first.file = drop
    second.file = replying(200, b"weights", **{wire.SPACE_HEADER: SERVED.space, "ETag": '"beef"'})
    for _ in range(3):
        async with client.model_file(model, "facenet") as file:
            assert (file.sha256, file.size) == ("beef", 7)
            assert b"".join([chunk async for chunk in file.chunks]) == b"weights"
    second.file = replying(200, b"other", **{wire.SPACE_HEADER: NEW})
    with pytest.raises(ExtractionUnavailable, match="changed its model"):
        async with client.model_file(model, "facenet"):
            pass


async def test_a_worker_that_no_longer_has_the_network_has_changed_its_model(start: Start) -> None:
    client, (worker,) = await start("abc")
    model = await client.model()
    worker.file = replying(400)
    with pytest.raises(ExtractionUnavailable, match="changed its model"):
        async with client.model_file(model, "facenet"):
            pass


async def test_of_several_workers_those_with_the_liveness_check_are_asked(
    start: Start, crops: NDArray[np.uint8]
) -> None:
    client, (without, having) = await start("abc", "abc")
    having.liveness = having.check
    views = np.zeros((2, 2, 80, 80, 3), np.uint8)
    for _ in range(4):
        _, scores = await client.examine(crops, views, SERVED)
        assert scores == [0, 0]
    assert having.calls.count("/liveness") == 4
    assert "/embeddings" in without.calls  # it is as good as ever for what it can
