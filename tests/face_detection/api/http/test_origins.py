"""Which names a service answers to, and which pages may make a browser use it: the rules, and both services by them.

And whom a request is from, and how it was sent, as proxies tell it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer
from flask.testing import FlaskClient

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.origins import Sent, public_path, sent
from face_detection.app import OPERATIONS
from feature_extraction.app import create_app
from feature_extraction.embedder import Embedder
from shared.errors import Forbidden, HostNotAllowed, SettingsError
from shared.settings import ExtractionSettings, FrontSettings
from shared.sites import Hosts, normal_origin, refuse_other_sites
from tests.conftest import Front

MACHINE = socket.gethostname()
LAN = "192.168.1.5:6337"


@pytest.mark.parametrize(
    ("bind", "allowed", "host"),
    [
        ("127.0.0.1:6337", None, None),
        ("127.0.0.1:6337", None, "127.0.0.1"),
        ("127.0.0.1:6337", None, "127.9.9.9:6337"),
        ("127.0.0.1:6337", None, "LOCALHOST:6337"),
        ("127.0.0.1:6337", None, "localhost.:1"),
        ("127.0.0.1:6337", None, "[::1]:6337"),
        ("127.0.0.1:6337", "faces.lan", "Faces.LAN:8443"),
        ("127.0.0.1:6337", "a.test, faces.lan:80", "faces.lan:80"),
        ("127.0.0.1:6337", "*.faces.lan", "one.faces.lan"),
        ("127.0.0.1:6337", "10.0.0.7,[2001:db8::1]", "[2001:db8::1]:6337"),
        (LAN, None, LAN),
        (LAN, None, "localhost"),
        (LAN, None, MACHINE),
        (LAN, None, f"{MACHINE}.local:6337"),
        ("0.0.0.0:6337", None, "203.0.113.9:6337"),
        (":6337", None, "[2001:db8::1]"),
        ("[::]:6337", None, "10.1.2.3"),
        ("faces.lan:6337", None, "faces.lan:6337"),
    ],
)
def test_names_that_are_the_services(bind: str, allowed: str | None, host: str | None) -> None:
    Hosts(bind, allowed).check(host)


@pytest.mark.parametrize(
    ("bind", "allowed", "host"),
    [
        ("127.0.0.1:6337", None, "evil.test"),
        ("127.0.0.1:6337", None, "evil.test:6337"),
        ("127.0.0.1:6337", None, "192.168.1.5"),
        ("127.0.0.1:6337", None, "0.0.0.0:6337"),
        ("127.0.0.1:6337", None, "127.0.0.1.evil.test"),
        ("127.0.0.1:6337", None, "localhost.evil.test"),
        ("127.0.0.1:6337", None, "127.0.0.1:6337@evil.test"),
        ("127.0.0.1:6337", None, "evil.test#localhost"),
        ("127.0.0.1:6337", None, ""),
        ("127.0.0.1:6337", None, "*"),
        ("127.0.0.1:6337", "faces.lan", "faces.lan.evil.test"),
        ("127.0.0.1:6337", "faces.lan", "one.faces.lan"),
        ("127.0.0.1:6337", "faces.lan:80", "faces.lan:8080"),
        ("127.0.0.1:6337", "faces.lan:80", "faces.lan"),
        ("127.0.0.1:6337", "*.faces.lan", "faces.lan"),
        (LAN, None, "192.168.1.6"),
        ("0.0.0.0:6337", None, "evil.test"),
        ("0.0.0.0:6337", None, f"{MACHINE}.evil.test"),
    ],
)
def test_names_of_others(bind: str, allowed: str | None, host: str) -> None:
    with pytest.raises(HostNotAllowed, match="ALLOWED_HOSTS"):
        Hosts(bind, allowed).check(host)


DataUri = Callable[[Path | bytes], str]

BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}
OWN, OTHER = "http://faces.lan:6337", "http://evil.test:6337"


@pytest.mark.parametrize(
    ("headers", "method", "own"),
    [
        ({}, "GET", True),
        ({}, "POST", True),
        ({"User-Agent": "curl/8.5.0"}, "GET", True),
        (BROWSER, "POST", True),
        (BROWSER, "GET", False),
        ({"Origin": OWN}, "POST", True),
        ({"Origin": "https://faces.lan:6337"}, "POST", True),
        ({"Origin": OTHER}, "POST", False),
        ({"Origin": "http://faces.lan"}, "POST", False),
        ({"Origin": "http://faces.lan:6338"}, "POST", False),
        ({"Origin": "ftp://faces.lan:6337"}, "POST", False),
        ({"Origin": "null"}, "POST", False),
        ({"Origin": ""}, "POST", False),
        ({"Referer": f"{OWN}/docs?x=http://evil.test"} | BROWSER, "GET", True),
        ({"Referer": f"{OTHER}/{OWN}"}, "GET", False),
        ({"Referer": "about:blank"}, "GET", False),
        ({"Referer": "http://[evil"}, "GET", False),
        ({"Referer": f"{OTHER}/"}, "DELETE", False),
        ({"Origin": OWN, "Referer": OTHER}, "POST", True),
        ({"Sec-Fetch-Site": "same-origin"} | BROWSER, "GET", True),
        ({"Sec-Fetch-Site": "none"} | BROWSER, "GET", True),
        ({"Sec-Fetch-Site": "same-site", "Origin": OWN}, "POST", False),
        ({"Sec-Fetch-Site": "cross-site"}, "GET", False),
        ({"Sec-Fetch-Site": "anything"}, "GET", False),
    ],
)
def test_who_makes_a_browser_send(headers: dict[str, str], method: str, own: bool) -> None:
    if own:
        refuse_other_sites(headers, "http", "faces.lan:6337", method)
    else:
        with pytest.raises(Forbidden):
            refuse_other_sites(headers, "http", "faces.lan:6337", method)


def test_a_page_without_tls_is_not_the_one_with_it() -> None:
    refuse_other_sites({"Origin": "https://faces.lan"}, "https", "faces.lan:443", "POST")
    with pytest.raises(Forbidden):
        refuse_other_sites({"Origin": "http://faces.lan"}, "https", "faces.lan", "POST")


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("https://App.example.org:443/", "https://app.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_have_one_form(origin: str, normal: str) -> None:
    assert normal_origin(origin) == normal


@pytest_asyncio.fixture
async def enrolled(start_front: Front, photos: Path, data_uri: DataUri) -> TestClient:
    front = await start_front(cors_origins="http://app.test:3000, https://app.example.org")
    answer = await front.post(
        "/update-samples", json=[{"id": "a", "name": "A", "image": data_uri(photos / "obama.jpg")}]
    )
    assert (await answer.json())["success"] == ["a"]
    return front


async def ids(front: TestClient) -> list[str]:
    return [person["id"] for person in (await (await front.get("/people")).json())["people"]]


CHANGES = [operation for operation in OPERATIONS if operation.method != "GET" or operation.changes]


async def test_other_names_are_refused_at_every_door(enrolled: TestClient) -> None:
    for operation in OPERATIONS:
        response = await enrolled.request(operation.method, operation.path, headers={"Host": "evil.test"})
        assert (response.status, "ALLOWED_HOSTS" in await response.text()) == (421, True), operation.path
    for path in ("/static/console/console.js", "/nowhere"):
        assert (await enrolled.get(path, headers={"Host": "evil.test:80"})).status == 421
    assert await ids(enrolled) == ["a"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Referer": "http://evil.test/page"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_changes_by_other_sites_are_refused_at_every_door(enrolled: TestClient, headers: dict[str, str]) -> None:
    assert {operation.path for operation in CHANGES if operation.method == "GET"} == {"/clear-samples", "/live"}
    for operation in CHANGES:
        response = await enrolled.request(operation.method, operation.path, headers=headers)
        assert response.status == 403, operation.path
        assert "CORS_ORIGINS" in await response.text()
    assert (await enrolled.get("/clear-samples", headers=BROWSER)).status == 403
    with pytest.raises(WSServerHandshakeError) as refused:
        await enrolled.ws_connect("/live", headers=headers)
    assert refused.value.status == 403
    assert await ids(enrolled) == ["a"]


async def test_web_apps_that_are_named(enrolled: TestClient) -> None:
    app = {"Origin": "http://app.test:3000", "Sec-Fetch-Site": "cross-site"}
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x-api-key"}
    preflight = await enrolled.options("/people/a", headers=app | asked)
    assert preflight.status == 204
    for name, values in {
        "Access-Control-Allow-Origin": {"http://app.test:3000"},
        "Access-Control-Allow-Methods": {"GET", "POST", "PUT", "PATCH", "DELETE"},
        "Access-Control-Allow-Headers": {"Authorization", "Content-Type", "X-API-Key", "Idempotency-Key"},
        "Access-Control-Max-Age": {"600"},
        "Vary": {"Origin"},
    }.items():
        assert values <= set(preflight.headers[name].split(", "))
    for path, status in (("/people", 200), ("/people/nobody", 404), ("/", 200), ("/faces/sync", 200)):
        answer = await enrolled.get(path, headers=app)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, "http://app.test:3000")
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert (await enrolled.patch("/people/a", json={"name": "B"}, headers=app)).status == 200
    async with enrolled.ws_connect("/live", headers={"Origin": "https://app.example.org"}) as socket:
        assert not socket.closed


async def test_web_apps_that_are_not_named(enrolled: TestClient, start_front: Front) -> None:
    other = {"Origin": "http://app.test:3001"}
    for front, headers in ((enrolled, other), (await start_front(), {"Origin": "http://app.test:3000"})):
        preflight = await front.options("/people/a", headers=headers | {"Access-Control-Request-Method": "PATCH"})
        assert preflight.status == 405
        for answer in (preflight, await front.get("/people", headers=headers)):
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]


async def test_a_streamed_answer_can_be_read_by_a_web_app(enrolled: TestClient, photos: Path) -> None:
    headers = {"Origin": "https://app.example.org", "Content-Type": "multipart/mixed; boundary=x"}
    body = b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + (photos / "obama2.jpg").read_bytes() + b"\r\n--x--\r\n"
    answer = await enrolled.post("/train/stream?userName=ann", data=body, headers=headers)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.org")


async def test_what_a_trusted_proxy_says_of_the_sender(start_front: Front) -> None:
    forwarded = {"X-Forwarded-Host": "faces.example.org", "X-Forwarded-Proto": "https"}
    page = {"Origin": "https://faces.example.org"}
    trusting = await start_front(trusted_proxies="127.0.0.0/8", allowed_hosts="faces.example.org")
    assert (await trusting.delete("/people/a", headers=forwarded | page)).status == 404
    assert (
        await trusting.delete("/people/a", headers=forwarded | {"Origin": "http://faces.example.org"})
    ).status == 403
    assert (await trusting.get("/people", headers={"X-Forwarded-Host": "evil.test"})).status == 421
    wary = await start_front(allowed_hosts="faces.example.org")
    assert (await wary.delete("/people/a", headers=forwarded | page)).status == 403
    assert (await wary.delete("/people/a", headers={"Host": "faces.example.org"} | page)).status == 404
    assert (await wary.get("/people", headers={"X-Forwarded-Host": "evil.test"})).status == 200


async def test_a_path_before_all_addresses(start_front: Front) -> None:
    front = await start_front(base_path="/faces", trusted_proxies="127.0.0.1")
    for path in ("/people", "/static/console/console.js", "/docs", "/livez", "/offline"):
        for base in ("", "/faces"):
            assert (await front.get(f"{base}{path}")).status == 200, (base, path)
    redirect = await front.get("/faces", allow_redirects=False)
    assert (redirect.status, redirect.headers["Location"]) == (308, "/faces/")
    assert (await front.get("/faces/nowhere")).status == 404
    assert (await (await front.put("/faces/update-samples")).json())["detail"] == "Method Not Allowed"
    assert (await front.get("/faces/clear-samples", headers={"Origin": "http://evil.test"})).status == 403
    for path, headers, prefix in (
        ("/openapi.json", {}, "/faces"),
        ("/faces/openapi.json", {}, "/faces"),
        ("/openapi.json", {"X-Forwarded-Prefix": "/other/"}, "/other"),
        ("/openapi.json", {"X-Forwarded-Prefix": "//evil.test/"}, "/faces"),
    ):
        described = await (await front.get(path, headers=headers)).json()
        assert described["servers"] == [{"url": prefix}]
    metrics = await (await front.get("/metrics")).text()
    assert 'front_requests_total{route="/people",status="200"} 2.0' in metrics
    assert "servers" not in await (await (await start_front()).get("/openapi.json")).json()


@pytest.mark.parametrize(
    "change",
    [
        {"ALLOWED_HOSTS": "*"},
        {"ALLOWED_HOSTS": "http://faces.lan"},
        {"ALLOWED_HOSTS": "faces.lan:0"},
        {"CORS_ORIGINS": "*"},
        {"CORS_ORIGINS": "null"},
        {"CORS_ORIGINS": "app.example.org"},
        {"CORS_ORIGINS": "https://app.example.org/path"},
        {"TRUSTED_PROXIES": "proxy"},
        {"TRUSTED_PROXIES": "10.0.0.0/33"},
        {"BASE_PATH": "faces"},
        {"BASE_PATH": "/../faces"},
        {"BASE_PATH": "//evil.test"},
    ],
)
def test_settings_that_are_refused(change: dict[str, str]) -> None:
    (name,) = change
    with pytest.raises(SettingsError, match=f"{name}="):
        FrontSettings.from_environment(change)


@pytest.mark.parametrize("path", ["/people", "/people/all", "/face", "/static"])
async def test_a_path_that_is_the_services_own_is_refused(start_front: Front, path: str) -> None:
    with pytest.raises(SettingsError, match=f"BASE_PATH={path}"):
        await start_front(base_path=path)


@pytest.fixture
def extraction(facenet: Embedder, extraction_settings: ExtractionSettings) -> Iterator[FlaskClient]:
    app = create_app(extraction_settings.model_copy(update={"allowed_hosts": "extraction"}), facenet)
    yield app.test_client()
    app.extensions["extraction"].close()


def test_the_extraction_service_goes_by_the_same_rules(extraction: FlaskClient) -> None:
    for path in ("/model", "/readyz", "/metrics", "/"):
        for host, status in (("evil.test", 421), ("extraction:5000", 200), ("127.0.0.1:5000", 200)):
            assert extraction.get(path, headers={"Host": host}).status_code == status
    refused = extraction.post("/embeddings", data=b"", headers={"Host": "evil.test"})
    assert (refused.status_code, refused.json["error"]["code"]) == (421, "host_not_allowed")
    for headers in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        for path in ("/embeddings", "/"):
            answer = extraction.post(path, data=b"", headers={"Host": "localhost"} | headers)
            assert (answer.status_code, answer.json["error"]["code"]) == (403, "forbidden")


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
