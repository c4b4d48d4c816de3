"""How a request looked to its sender, before the proxies that the setting TRUSTED_PROXIES names passed it on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import web

from face_detection.api.http.bodies import SETTINGS
from shared.settings import check_path

_PEER_OF_IPV6 = 64
"""Bits of an IPv6 address that tell a peer: one machine has all addresses of such a network."""

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
