"""Where a request comes from: from whom, by which name of the service, and whether a page of another site had it sent.

What proxies say counts if the setting TRUSTED_PROXIES names them. Which names a request may be for, and which web
pages may make a browser send it, shared/sites.py explains. The web apps whose origins the setting CORS_ORIGINS names
may use the service as its own pages do (CORS, the Fetch standard). They send their API key in a header: the service
has no cookies.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDict

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.operation import Handler
from shared.settings import check_path
from shared.sites import hosts_of, normal_origin, origins_of, refuse_other_sites

_PEER_OF_IPV6 = 64
"""Bits of an IPv6 address that tell a peer: one machine has all addresses of such a network."""

CHANGING: web.AppKey[frozenset[str]] = web.AppKey("changing", frozenset)
"""Patterns of the paths at which GET changes something."""

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Request-ID",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = (
    "ETag, Idempotency-Replayed, Link, Retry-After, X-Embedding-Space, X-Metric, X-Next-Cursor, X-Request-ID, "
    "X-Search, X-Threshold"
)
"""Headers of answers that a script may read, beside those that it always may."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Sent:
    """What a request was when it was sent.

    Attributes:
        peer: the machine that it is from, as text: an IPv4 address or an IPv6 network.
        scheme: ``http`` or ``https``.
        host: ``Host``; None without one.
        prefix: path below which the sender sees the service, such as ``/faces``; empty for none.
    """

    peer: str
    scheme: str
    host: str | None
    prefix: str


_SENT: web.RequestKey[Sent] = web.RequestKey("sent", Sent)


def sent(request: web.Request) -> Sent:
    """What a request was when it was sent."""
    if _SENT not in request:
        request[_SENT] = _look(request)
    return request[_SENT]


def public_path(request: web.Request, path: str) -> str:
    """The path of an address of this service as the sender of a request can use it."""
    return sent(request).prefix + path


def _look(request: web.Request) -> Sent:
    settings = request.app[SETTINGS]
    networks = _networks(settings.trusted_proxies)
    remote = _parse(request.remote or "")
    host = request.headers.get("Host")
    prefix = settings.base_path or ""
    if not _is_trusted(remote, networks):
        return Sent(_peer(remote), request.scheme, host, prefix)
    peer = remote
    for hop in reversed(_values(request, "X-Forwarded-For")):
        if not _is_trusted(peer, networks) or (before := _parse(hop)) is None:
            break
        peer = before
    # Of several proxies, each may add to the end; the one that is trusted has written the last.
    scheme = (_values(request, "X-Forwarded-Proto") or [request.scheme])[-1].lower()
    if hosts := _values(request, "X-Forwarded-Host"):
        host = hosts[-1]
    return Sent(_peer(peer), "https" if scheme in ("https", "wss") else "http", host, _prefix(request, prefix))


def _values(request: web.Request, name: str) -> list[str]:
    lines = request.headers.getall(name, ())
    return [value.strip() for line in lines for value in line.split(",") if value.strip()]


def _prefix(request: web.Request, otherwise: str) -> str:
    prefix = request.headers.get("X-Forwarded-Prefix", "").strip()
    try:
        return check_path(prefix) if prefix.strip("/") else otherwise
    except ValueError:
        return otherwise


def _parse(text: str) -> Address | None:
    """An address, with a port behind it or without one."""
    for candidate in (text, text.rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(candidate.strip("[]").partition("%")[0])
        except ValueError:
            continue
        return getattr(address, "ipv4_mapped", None) or address
    return None


def _peer(address: Address | None) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _PEER_OF_IPV6), strict=False))
    return str(address or "")


def _is_trusted(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=16)
def _networks(setting: str | None) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(entry.strip(), strict=False) for entry in (setting or "").split(",") if entry)


def route_of(request: web.Request) -> str:
    """The route's pattern, which has no ids in it, without BASE_PATH."""
    resource = request.match_info.route.resource
    if resource is None:
        return "unknown"
    base = request.app[SETTINGS].base_path
    return resource.canonical.removeprefix(base) if base else resource.canonical


@web.middleware
async def refuse_strangers_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests for names of others, and changes that a page of another site makes a browser ask for."""
    settings, seen = request.app[SETTINGS], sent(request)
    hosts_of(settings.front_bind, settings.allowed_hosts).check(seen.host)
    if _is_of_app(request):
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=_PREFLIGHT)
    elif request.method not in ("GET", "HEAD", "OPTIONS") or route_of(request) in request.app[CHANGING]:
        refuse_other_sites(request.headers, seen.scheme, seen.host, request.method)
    return await handler(request)


async def let_apps_read(request: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: an answer to one of the web apps may be read by it."""
    if not request.app[SETTINGS].cors_origins:
        return
    _add(response.headers, "Vary", "Origin")
    if _is_of_app(request):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _is_of_app(request: web.Request) -> bool:
    origin = request.headers.get("Origin")
    return origin is not None and normal_origin(origin) in origins_of(request.app[SETTINGS].cors_origins)


def _add(headers: CIMultiDict[str], name: str, value: str) -> None:
    headers[name] = f"{headers[name]}, {value}" if name in headers else value
