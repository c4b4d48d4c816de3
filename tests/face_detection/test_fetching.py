"""Pictures by their addresses: from listed hosts at public addresses, within limits, and from nowhere else."""

from __future__ import annotations

import asyncio
import gzip
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from face_detection.fetching import MAX_URL, PictureFetcher, is_public, parse_hosts
from shared.errors import FetchFailed, Forbidden, ImageTooLarge, InvalidRequest, ServiceError, UnsupportedImage
from shared.settings import FrontSettings, SettingsError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
"""Both are loopback addresses of this machine; the tests' policy takes the first one for public."""

ENDLESS: web.AppKey[list[str]] = web.AppKey("endless", list)
"""Told when a client has enough of a body without end."""

Fetch = Callable[..., Awaitable[bytes]]


async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query.get("status", "302")), headers={"Location": request.query["to"]})


async def hops(request: web.Request) -> web.Response:
    left = int(request.match_info["left"])
    return web.Response(status=307, headers={"Location": f"/hops/{left - 1}"}) if left else web.Response(body=PNG)


async def picture(request: web.Request) -> web.Response:
    headers = {"Set-Cookie": "a=b", "X-Seen": str(dict(request.headers))}
    assert "Cookie" not in request.headers and "Authorization" not in request.headers
    return web.Response(body=PNG, content_type=request.query.get("type", "image/png"), headers=headers)


async def answer(request: web.Request) -> web.Response:
    return web.Response(body=b"<html>" + bytes(100), status=int(request.match_info["status"]), content_type="text/html")


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        await response.write(PNG)
        while True:
            await response.write(bytes(10_000))
    finally:
        request.app[ENDLESS].append("given up")


async def slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/png"})
    await response.prepare(request)
    for byte in PNG:
        await response.write(bytes([byte]))
        await asyncio.sleep(0.05)
    return response


async def packed(request: web.Request) -> web.Response:
    assert request.headers["Accept-Encoding"] == "identity"
    return web.Response(body=gzip.compress(PNG), headers={"Content-Encoding": "gzip"}, content_type="image/png")


async def announce(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000000000", "Content-Type": "image/png"})
    await response.prepare(request)
    return response


def site() -> web.Application:
    app = web.Application()
    app[ENDLESS] = []
    app.router.add_get("/redirect", redirect)
    app.router.add_get("/hops/{left}", hops)
    app.router.add_get("/picture", picture)
    app.router.add_get("/status/{status}", answer)
    app.router.add_get("/endless", endless)
    app.router.add_get("/slow", slow)
    app.router.add_get("/announce", announce)
    app.router.add_get("/packed", packed)
    return app


@pytest_asyncio.fixture
async def server() -> AsyncIterator[TestServer]:
    async with TestServer(site(), host=PUBLIC, port=free_at_both()) as server:
        yield server


def free_at_both() -> int:
    """A port that nobody uses at either address, and which the system does not give to clients meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as public, socket.socket() as private:
            try:
                public.bind((PUBLIC, port))
                private.bind((PRIVATE, port))
            except OSError:
                continue
            return port


@pytest_asyncio.fixture
async def hidden(server: TestServer) -> AsyncIterator[list[str]]:
    """A server at the same port of the private address; the paths that it was asked for."""
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=PNG, content_type="image/png")

    app = web.Application()
    app.router.add_get("/{any:.*}", note)
    async with TestServer(app, host=PRIVATE, port=server.port):
        yield asked


def resolver(*answers: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """Answers one lookup after another; the last answer again and again."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


@pytest_asyncio.fixture
async def fetch(server: TestServer) -> AsyncIterator[Fetch]:
    """Fetches a path of the server with a fetcher of its own, or a whole address."""
    made: list[PictureFetcher] = []

    async def fetch(path: str, *answers: Sequence[str], host: str = "pictures.test", seconds: float = 5) -> bytes:
        fetcher = PictureFetcher(
            parse_hosts(f"pictures.test:{server.port}, *.below.test:{server.port}, {PUBLIC}:{server.port}"),
            max_bytes=100_000,
            seconds=seconds,
            is_allowed_address=lambda address: address == PUBLIC,
            resolve=resolver(*(answers or [[PUBLIC]])),
        )
        made.append(fetcher)
        return await fetcher.fetch(f"http://{host}:{server.port}{path}" if path.startswith("/") else path)

    yield fetch
    for fetcher in made:
        await fetcher.close()


@pytest.mark.parametrize("type", ["image/png", "application/octet-stream", "text/html"])
async def test_a_picture_is_fetched_whatever_its_type_says(fetch: Fetch, type: str) -> None:
    assert await fetch(f"/picture?type={type}") == PNG


@pytest.mark.parametrize("host", ["pictures.test", "PICTURES.test", "pictures.test.", "a.below.test", "a.b.below.test"])
async def test_hosts_that_are_listed(fetch: Fetch, host: str) -> None:
    assert await fetch("/picture", host=host) == PNG


async def test_a_listed_address_needs_no_name(fetch: Fetch) -> None:
    assert await fetch("/picture", host=PUBLIC) == PNG


@pytest.mark.parametrize(
    "host",
    ["other.test", "below.test", "notbelow.test", "pictures.test.evil.test", "xpictures.test", PRIVATE, "2130706433"]
    + ["127.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001"],
)
async def test_hosts_that_are_not_listed(fetch: Fetch, hidden: list[str], host: str) -> None:
    with pytest.raises(Forbidden):
        await fetch("/picture", host=host)
    assert not hidden


async def test_ports_that_are_not_listed(fetch: Fetch) -> None:
    for address in ("http://pictures.test:22/", "https://pictures.test:80/", "http://pictures.test:443/"):
        with pytest.raises(Forbidden):
            await fetch(address)


async def test_nothing_is_fetched_unless_hosts_are_listed() -> None:
    fetcher = PictureFetcher(parse_hosts(None), 1000)
    with pytest.raises(Forbidden, match="IMAGE_URL_HOSTS"):
        await fetcher.fetch("https://example.org/a.jpg")
    await fetcher.close()


@pytest.mark.parametrize(
    "address",
    ["", "a.jpg", "//pictures.test/a", "file:///etc/passwd", "ftp://pictures.test/", "data:image/png;base64,AAAA"]
    + ["http://", "http:///a", "http://user:secret@pictures.test/a", "http://user@pictures.test/"]
    + ["http://pictures.test/a b", "http://pictures.test\\@evil.test/", "http://pictures.test/\r\nHost: x"]
    + ["http://pictures.test:99999/", "http://pictures.test:x/", "http://[::1/", "http://" + "a" * MAX_URL],
)
async def test_what_is_no_address(fetch: Fetch, address: str) -> None:
    with pytest.raises(InvalidRequest, match="image_url"):
        await fetch(address) if not address.startswith("/") else await fetch(f"x{address}")


@given(text=st.one_of(st.text(max_size=60), st.text(max_size=40).map("http://pictures.test".__add__)))
def test_any_text_is_refused_in_a_documented_way(text: str) -> None:
    async def attempt() -> None:
        fetcher = PictureFetcher(parse_hosts("pictures.test"), 1000, resolve=resolver([PRIVATE]))
        with pytest.raises(ServiceError):
            await fetcher.fetch(text)
        await fetcher.close()

    asyncio.run(attempt())


@pytest.mark.parametrize(
    "addresses", [[PRIVATE], [PUBLIC, PRIVATE], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]]
)
async def test_a_name_of_a_private_address(fetch: Fetch, hidden: list[str], addresses: list[str]) -> None:
    with pytest.raises(Forbidden, match="public"):
        await fetch("/picture", addresses)
    assert not hidden


async def test_a_name_is_looked_up_once_for_a_connection(fetch: Fetch, hidden: list[str]) -> None:
    assert await fetch("/picture", [PUBLIC], [PRIVATE]) == PNG
    assert not hidden


async def test_a_name_that_changes_its_address(fetch: Fetch, hidden: list[str]) -> None:
    with pytest.raises(Forbidden, match="public"):
        await fetch("/redirect?to=/picture", [PUBLIC], [PRIVATE])
    assert not hidden


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(fetch: Fetch, status: int) -> None:
    assert await fetch(f"/redirect?status={status}%26to=/picture".replace("%26", "&")) == PNG


async def test_not_more_than_three_redirects(fetch: Fetch) -> None:
    assert await fetch("/hops/3") == PNG
    with pytest.raises(FetchFailed, match="redirects"):
        await fetch("/hops/4")


@pytest.mark.parametrize(
    ("to", "error"),
    [
        (f"http://{PRIVATE}:{{port}}/a", Forbidden),
        (f"http://{PRIVATE}/a", Forbidden),
        ("http://other.test:{port}/a", Forbidden),
        ("//169.254.169.254/a", Forbidden),
        ("http://user:secret@pictures.test:{port}/picture", InvalidRequest),
        ("file:///etc/passwd", InvalidRequest),
        ("ftp://pictures.test/a", InvalidRequest),
    ],
)
async def test_redirects_to_where_nobody_may_go(
    fetch: Fetch, server: TestServer, hidden: list[str], to: str, error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        await fetch(f"/redirect?to={to.format(port=server.port)}")
    assert not hidden


async def test_a_picture_that_never_ends(fetch: Fetch, server: TestServer) -> None:
    with pytest.raises(ImageTooLarge):
        await fetch("/endless")
    for _ in range(100):
        if server.app[ENDLESS]:
            break
        await asyncio.sleep(0.05)
    assert server.app[ENDLESS] == ["given up"]


async def test_a_picture_that_announces_too_much(fetch: Fetch) -> None:
    with pytest.raises(ImageTooLarge):
        await fetch("/announce")


async def test_nothing_is_unpacked(fetch: Fetch) -> None:
    assert gzip.decompress(await fetch("/packed")) == PNG


async def test_a_picture_that_comes_too_slowly(fetch: Fetch) -> None:
    with pytest.raises(FetchFailed, match=r"0\.3 seconds"):
        await fetch("/slow", seconds=0.3)


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
async def test_an_answer_without_a_picture(fetch: Fetch, status: int) -> None:
    with pytest.raises(FetchFailed, match=str(status)):
        await fetch(f"/status/{status}")


async def test_a_page_is_no_picture(fetch: Fetch) -> None:
    with pytest.raises(UnsupportedImage):
        await fetch("/status/200")


async def test_nobody_listens(fetch: Fetch, unused_tcp_port: int) -> None:
    with pytest.raises(Forbidden):
        await fetch(f"http://pictures.test:{unused_tcp_port}/")
    fetcher = PictureFetcher(
        parse_hosts(f"a.test:{unused_tcp_port}"), 1000, is_allowed_address=lambda _: True, resolve=resolver([PUBLIC])
    )
    with pytest.raises(FetchFailed, match="reached"):
        await fetcher.fetch(f"http://a.test:{unused_tcp_port}/")
    await fetcher.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\xff\xd8\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: image/png\r\n\r\n\x89PNG",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 100_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=lambda answer: answer[:40].decode("latin-1"),
)
async def test_an_answer_that_is_no_http(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        with suppress(ConnectionError):
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, PUBLIC) as server:
        port = server.sockets[0].getsockname()[1]
        fetcher = PictureFetcher(
            parse_hosts(f"a.test:{port}"), 1000, is_allowed_address=lambda _: True, resolve=resolver([PUBLIC])
        )
        with pytest.raises((FetchFailed, InvalidRequest)):
            await fetcher.fetch(f"http://a.test:{port}/")
        await fetcher.close()


async def test_no_proxy_of_the_environment(
    fetch: Fetch, hidden: list[str], server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{PRIVATE}:{server.port}")
    assert await fetch("/picture") == PNG
    assert not hidden


async def test_a_name_without_addresses() -> None:
    fetcher = PictureFetcher(parse_hosts("*.invalid"), 1000)
    with pytest.raises(FetchFailed, match="reached"):
        await fetcher.fetch("http://nowhere.invalid/")
    await fetcher.close()


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"]
    + ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"]
    + ["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1"]
    + ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1"]
    + ["2002:7f00:1::", "2002:a00:1::1", "2001::1", "5f00::1", "127.1", "2130706433", "0x7f000001", "localhost", ""],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("hosts", ["example.org", "*.example.org:8080", "a.b-c_d.test, 192.0.2.1:80,localhost"])
def test_the_setting(hosts: str) -> None:
    assert parse_hosts(FrontSettings(image_url_hosts=hosts).image_url_hosts)


@pytest.mark.parametrize(
    "hosts",
    ["*", "*.", ".example.org", "a..b", "example.org:0", "example.org:65536", "http://example.org", "a/b", "a,,b"],
)
def test_a_malformed_setting_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match="IMAGE_URL_HOSTS"):
        FrontSettings.from_environment({"IMAGE_URL_HOSTS": hosts})
