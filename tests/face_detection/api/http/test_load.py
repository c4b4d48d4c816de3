"""Shares of what there is: the rule, and real clients of a real front that want everything."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from face_detection.api.http.load import LOAD, Account, Load, Place
from face_detection.api.operation import ACCESS
from face_detection.app import OPERATIONS
from face_detection.gallery.directory import Right
from shared.errors import Overloaded
from tests.conftest import Front


def fill(account: Account, peer: str) -> int:
    """Requests that a peer gets when it wants all there are."""
    taken = 0
    while True:
        try:
            account.enter(peer)
        except Overloaded:
            return taken
        taken += 1


@pytest.mark.parametrize(("most", "shares"), [(256, [128, 64, 32]), (3, [2, 1, 0]), (1, [1, 0]), (0, [0])])
def test_a_peer_gets_no_more_than_it_leaves(most: int, shares: list[int]) -> None:
    account = Account(most)
    assert [fill(account, peer) for peer in "abc"[: len(shares)]] == shares


def test_peers_that_come_in_turns_get_the_same_and_leave_as_much() -> None:
    account = Account(300)
    for _ in range(300):
        for peer in "ab":
            try:
                account.enter(peer)
            except Overloaded:
                continue
    assert account.held.requests == 200
    assert fill(account, "c") == 50


Steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200), st.booleans()), max_size=30)


@given(steps=Steps)
def test_what_is_held_is_given_back(steps: list[tuple[str, int, bool]]) -> None:
    load = Load(8, 400)
    places: list[Place] = []
    for peer, size, stranger in steps:
        try:
            place = Place(load, peer)
        except Overloaded:
            continue
        places.append(place)
        try:
            if stranger:
                place.be_stranger()
            place.hold(size)
            place.hold(size // 2)
        except Overloaded:
            pass
        if size % 2:
            place.be_known()
        assert load.bytes <= 400 and load.pending <= 8
        assert load.strangers.held.bytes <= 50 and load.strangers.held.requests <= 1
    for place in places:
        place.leave()
        place.leave()
    assert (load.pending, load.bytes, load.large) == (0, 0, None)
    assert (load.strangers.held.requests, load.strangers.held.bytes) == (0, 0)


@asynccontextmanager
async def sending(
    front: TestClient, peer: str, path: str, *headers: str, body: bytes = b"{", length: int = 512 << 20
) -> AsyncIterator[None]:
    """A request from an address of this machine that announces much and sends hardly anything."""
    reader, writer = await asyncio.open_connection(front.host, front.port, local_addr=(peer, 0))
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *headers, "", "")
    writer.write("\r\n".join(lines).encode() + body)
    try:
        await writer.drain()
        yield
    finally:
        writer.transport.abort()


@pytest.fixture
def operator() -> Callable[[TestClient], dict[str, str]]:
    def key(front: TestClient) -> dict[str, str]:
        assert front.app is not None
        return {"X-API-Key": front.app[ACCESS].create_key("default", "operator", [Right.ADMIN])[1]}

    return key


Operator = Callable[[TestClient], dict[str, str]]

BODIES = sorted({one.path for one in OPERATIONS if one.method in ("POST", "PUT", "PATCH")})


async def assert_works(front: TestClient, photo: Path, headers: dict[str, str]) -> None:
    """The operator enrols, recognises and looks at the people."""
    encoded = base64.b64encode(photo.read_bytes()).decode()
    for path, body in (
        ("/update-samples", [{"id": "a", "name": "A", "image": encoded}]),
        ("/face-recognition", {"image": encoded}),
        ("/recognize", {"picture": encoded}),
    ):
        response = await front.post(path, json=body, headers=headers)
        assert response.status == 200, await response.text()
    assert (await front.get("/people", headers=headers)).status == 200


async def test_two_strangers_who_announce_much_keep_nobody_out(
    start_front: Front, operator: Operator, photos: Path
) -> None:
    front = await start_front()
    headers = operator(front)
    async with AsyncExitStack() as stack:
        for path in BODIES:
            for peer in ("127.0.0.1", "127.0.0.2"):
                await stack.enter_async_context(sending(front, peer, path))
        assert front.app is not None
        assert front.app[LOAD].bytes < 1 << 20
        await assert_works(front, photos / "obama.jpg", headers)


async def test_strangers_have_a_small_part(start_front: Front, operator: Operator, photos: Path) -> None:
    front = await start_front(max_pending_requests=32)
    headers = operator(front)
    assert front.app is not None
    load = front.app[LOAD]
    async with AsyncExitStack() as stack:
        for number in range(2, 60):
            await stack.enter_async_context(sending(front, f"127.0.0.{number}", "/train", length=60 << 20))
        async with asyncio.timeout(10):
            while (load.pending, load.strangers.held.requests) != (4, 4):
                await asyncio.sleep(0.01)
        await assert_works(front, photos / "obama.jpg", headers)
        inside = {"API_KEY": headers["X-API-Key"], "userName": "a", "picture": "x"}
        assert (await front.post("/recognize", data=inside)).status == 429


async def test_who_has_the_key_inside_has_room_beside_one_stranger(
    start_front: Front, operator: Operator, photos: Path
) -> None:
    front = await start_front(max_pending_requests=64)
    headers = operator(front)
    await assert_works(front, photos / "obama.jpg", headers)
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(sending(front, "127.0.0.2", "/train", length=60 << 20))
        picture = base64.b64encode((photos / "obama2.jpg").read_bytes()).decode()
        body = {"API_KEY": headers["X-API-Key"], "userName": "a", "picture": picture}
        response = await front.post("/recognize", json=body)
        assert (response.status, (await response.json())["successDescription"]) == (200, "a")


async def test_a_body_that_is_too_large_for_a_stranger(start_front: Front, operator: Operator, photos: Path) -> None:
    front = await start_front(max_pending_bytes=1 << 20)
    key = operator(front)["X-API-Key"]
    body = {"API_KEY": key, "userName": "a", "stream": ["A" * (1 << 17)]}
    response = await front.post("/train", json=body)
    failure = await response.json()
    assert (response.status, failure["errorCode"]) == (413, "body_too_large")
    assert "X-API-Key" in failure["failureDescription"]
    assert (await front.post("/train", json=body, headers={"X-API-Key": key})).status == 422


@pytest.mark.parametrize("path", ["/", "/companies/recognition", "/train/stream?userName=a", "/update-samples"])
async def test_a_wrong_key_is_refused_before_the_body(start_front: Front, operator: Operator, path: str) -> None:
    front = await start_front()
    operator(front)
    for header in ("X-API-Key: fr_wrong", "X-Nothing: x"):
        reader, writer = await asyncio.open_connection(front.host, front.port)
        lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Length: 536870912", header, "", "")
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(10):
            assert b" 401 " in await reader.readline()
        writer.transport.abort()


async def test_without_keys_one_address_leaves_others_their_room(start_front: Front, photos: Path) -> None:
    front = await start_front(max_pending_requests=16)
    assert front.app is not None
    async with AsyncExitStack() as stack:
        for peer in ("127.0.0.2", "127.0.0.3"):
            for _ in range(20):
                await stack.enter_async_context(sending(front, peer, "/update-samples"))
        async with asyncio.timeout(10):
            while front.app[LOAD].pending < 10:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert front.app[LOAD].pending <= 12
        await assert_works(front, photos / "obama.jpg", {})


async def test_bytes_that_have_come_leave_others_their_room(start_front: Front, photos: Path) -> None:
    front = await start_front(max_pending_bytes=8 << 20)
    async with AsyncExitStack() as stack:
        for peer in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            await stack.enter_async_context(sending(front, peer, "/update-samples", body=b"[" + b" " * (6 << 20)))
        await assert_works(front, photos / "obama.jpg", {})


async def test_strangers_leave_live_sessions_to_others(start_front: Front, operator: Operator) -> None:
    front = await start_front(live_sessions=8)
    headers = operator(front)
    assert front.server is not None
    async with AsyncExitStack() as stack:
        statuses = []
        for number in range(2, 8):
            connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{number}", 0))
            client = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            try:
                await stack.enter_async_context(client.ws_connect(front.make_url("/live")))
            except aiohttp.WSServerHandshakeError as refused:
                statuses.append(refused.status)
        assert statuses == [429] * 4
        # Who is known has all that is left, however many of them come from one address.
        for _ in range(6):
            await stack.enter_async_context(front.ws_connect("/live", headers=headers))
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await front.ws_connect("/live", headers=headers)


async def test_a_stranger_who_shows_a_key_is_none_any_more(start_front: Front, operator: Operator) -> None:
    front = await start_front(live_sessions=4)
    key = operator(front)["X-API-Key"]
    async with AsyncExitStack() as stack:
        for _ in range(4):
            socket = await stack.enter_async_context(front.ws_connect("/live"))
            await socket.send_json({"api_key": key})
            # The answer to a frame that is none: by then the key has been taken.
            await socket.send_bytes(b"\xff")
            assert (await socket.receive_json(timeout=30))["error"]["code"]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await front.ws_connect("/live", headers={"X-API-Key": key})
