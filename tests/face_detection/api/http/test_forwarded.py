"""Whom a request is from, and how it was sent, as proxies tell it: real requests to a small application."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.forwarded import Sent, public_path, sent
from shared.settings import FrontSettings


async def tell(request: web.Request) -> web.Response:
    seen = sent(request)
    assert sent(request) is seen and public_path(request, "/people") == f"{seen.prefix}/people"
    return web.json_response([seen.peer, seen.scheme, seen.host, seen.prefix])


async def seen_with(headers: list[tuple[str, str]], **settings: str) -> Sent:
    app = web.Application()
    app[SETTINGS] = FrontSettings(**settings)
    app.router.add_get("/", tell)
    async with TestClient(TestServer(app)) as client:
        return Sent(*await (await client.get("/", headers=[("Host", "own.test"), *headers])).json())


NOTHING = Sent("127.0.0.1", "http", "own.test", "")


@pytest.mark.parametrize(
    ("lines", "peer"),
    [
        ([], "127.0.0.1"),
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["203.0.113.1, 192.0.2.7"], "192.0.2.7"),
        (["203.0.113.1", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.1.1.1, 10.2.2.2"], "192.0.2.7"),
        (["10.1.1.1"], "10.1.1.1"),
        (["192.0.2.7, unknown"], "127.0.0.1"),
        (["nonsense, 10.1.1.1"], "10.1.1.1"),
        (["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (["[2001:db8:1:2::9]:4711"], "2001:db8:1:2::/64"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["fe80::1%eth0"], "fe80::/64"),
    ],
)
async def test_the_peer_is_the_last_that_is_no_proxy(lines: list[str], peer: str) -> None:
    headers = [("X-Forwarded-For", line) for line in lines]
    assert (await seen_with(headers, trusted_proxies="127.0.0.1, 10.0.0.0/8")).peer == peer
    assert await seen_with(headers, trusted_proxies="10.0.0.0/8") == await seen_with(headers) == NOTHING


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Proto": "https"}, ("https", "own.test", "")),
        ({"X-Forwarded-Proto": "http, HTTPS"}, ("https", "own.test", "")),
        ({"X-Forwarded-Proto": "gopher"}, ("http", "own.test", "")),
        ({"X-Forwarded-Host": "faces.test:8443"}, ("http", "faces.test:8443", "")),
        ({"X-Forwarded-Host": "evil.test, faces.test"}, ("http", "faces.test", "")),
        ({"X-Forwarded-Prefix": "/a/b/"}, ("http", "own.test", "/a/b")),
        ({"X-Forwarded-Prefix": "/"}, ("http", "own.test", "")),
        ({"X-Forwarded-Prefix": "https://evil.test"}, ("http", "own.test", "")),
        ({"X-Forwarded-Prefix": "/a/../b"}, ("http", "own.test", "")),
    ],
)
async def test_what_a_proxy_says(headers: dict[str, str], expected: tuple[str, str, str]) -> None:
    assert await seen_with(list(headers.items()), trusted_proxies="127.0.0.1") == Sent("127.0.0.1", *expected)
    assert await seen_with(list(headers.items())) == NOTHING


async def test_the_path_of_the_setting() -> None:
    assert (await seen_with([], base_path="/faces")).prefix == "/faces"
    told = [("X-Forwarded-Prefix", "/other")]
    assert (await seen_with(told, base_path="/faces", trusted_proxies="127.0.0.1")).prefix == "/other"
