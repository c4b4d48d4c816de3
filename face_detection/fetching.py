"""Fetches pictures by the addresses that clients give. No web framework in its interface.

Whoever may name an address makes this machine send a request, so what is behind a firewall must stay out of reach
(server-side request forgery). Only hosts that the operator has listed are asked, and only at public addresses: a name
is looked up once for each connection, its addresses are checked, and exactly these are connected to, so a name that
is looked up a second time with another result (DNS rebinding) gains nothing. Redirects are followed one by one, and
each is checked like the first address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from shared.errors import FetchFailed, Forbidden, ImageTooLarge, InvalidRequest, UnsupportedImage
from shared.formats import LONGEST_SIGNATURE, format_of

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name at a port; raises OSError when there are none."""

MAX_URL = 2048
MAX_REDIRECTS = 3

_AT_ONCE = 16
"""Fetches of one process at a time; others wait, within their time limit. Bounds the pictures held in memory."""

_LOOKUPS = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lookup")
"""A lookup cannot be given up: in asyncio's own threads slow name servers would hold up what else runs there."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED = (
    ipaddress.IPv6Network("2001::/23"),  # Teredo and other protocols
    ipaddress.IPv6Network("2002::/16"),  # 6to4
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)


@dataclass(frozen=True)
class AllowedHost:
    """An entry of IMAGE_URL_HOSTS.

    Attributes:
        name: in lower case; one that begins with a dot stands for all names below it.
        port: allowed beside 80 for http and 443 for https.
    """

    name: str
    port: int | None

    def covers(self, host: str, port: int, default_port: int) -> bool:
        """Whether a host may be asked at a port."""
        matches = host.endswith(self.name) if self.name.startswith(".") else host == self.name
        return matches and port in (default_port, self.port)


def parse_hosts(setting: str | None) -> tuple[AllowedHost, ...]:
    """The entries of the setting IMAGE_URL_HOSTS, whose form was checked when it was read."""
    entries = [entry.strip().lower().partition(":") for entry in (setting or "").split(",") if entry.strip()]
    return tuple(AllowedHost(name.removeprefix("*"), int(port) if port else None) for name, _, port in entries)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's, and not just another spelling of one that is not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None and ip not in _NAT64:
            return ip.is_global and ip in _GLOBAL_UNICAST and not any(ip in network for network in _TRANSLATED)
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


async def resolve_with_system(host: str, port: int) -> Sequence[str]:
    """The addresses that the operating system knows for a name."""
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, lookup)
    return [str(address[0]) for *_, address in found]


class PictureFetcher:
    """Fetches pictures. Lives in one event loop.

    Args:
        hosts: that may be asked; none are when empty.
        max_bytes: most bytes of a picture.
        seconds: within which a picture must be there, with all redirects.
        is_allowed_address: whether an IP address may be connected to.
        resolve: looks up names.
    """

    def __init__(
        self,
        hosts: Sequence[AllowedHost],
        max_bytes: int,
        seconds: float = 10.0,
        is_allowed_address: Callable[[str], bool] = is_public,
        resolve: Resolve = resolve_with_system,
    ) -> None:
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._is_allowed_address = is_allowed_address
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, address: str) -> bytes:
        """The encoded picture at an http or https address.

        Raises:
            InvalidRequest: not such an address, or one with credentials.
            Forbidden: its host, or where a redirect leads, is not listed or not public.
            FetchFailed: it cannot be reached, does not answer with 200, or takes too long.
            ImageTooLarge: more than ``max_bytes``.
            UnsupportedImage: what comes is no picture.
        """
        url = self._parse(address)
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    self._check(url)
                    found = await self._ask(url)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except TimeoutError as error:
            raise FetchFailed(f"The picture was not there within {self._seconds:g} seconds.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed("The picture's address cannot be reached.") from error
        raise FetchFailed(f"The picture's address redirects more than {MAX_REDIRECTS} times.")

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    @staticmethod
    def _parse(address: str) -> URL:
        # Characters that parsers read differently are refused rather than mended.
        if len(address) > MAX_URL or re.search(r"[\s\\\x00-\x20\x7f]", address):
            raise InvalidRequest(f"image_url: must be an address without spaces, of at most {MAX_URL} characters")
        try:
            url = URL(address)
            url.port  # noqa: B018  (raises for one that is out of range)
        except ValueError:
            raise InvalidRequest("image_url: is not a well-formed address") from None
        return url

    def _check(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise InvalidRequest("image_url: must be an http or https address")
        if "@" in url.raw_authority:
            raise InvalidRequest("image_url: must not have credentials")
        host = url.raw_host.lower().removesuffix(".")
        port, default_port = url.port or 0, 443 if url.scheme == "https" else 80
        if not any(allowed.covers(host, port, default_port) for allowed in self._hosts):
            raise Forbidden("Pictures are not fetched from this host; the setting IMAGE_URL_HOSTS lists those allowed.")
        # The connector asks no resolver for what looks like an IP address.
        if (":" in host or host.replace(".", "").isdigit()) and not self._is_allowed_address(host):
            raise _not_public()

    async def _ask(self, url: URL) -> bytes | URL:
        """The picture, or where a redirect leads."""
        async with self._open_session().get(url, allow_redirects=False) as response:
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return url.join(self._parse(location))
            if response.status != 200:
                raise FetchFailed(f"The picture's address answers with status {response.status}.")
            if (response.content_length or 0) > self._max_bytes:
                raise self._too_large()
            data = bytearray()
            is_picture = response.content_type.startswith("image/")
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > self._max_bytes:
                    raise self._too_large()
                if not is_picture and len(data) >= LONGEST_SIGNATURE:
                    if format_of(data) is None:
                        raise UnsupportedImage("What the picture's address gives is not a picture.")
                    is_picture = True
            return bytes(data)

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(f"The encoded image has more than {self._max_bytes} bytes.")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_CheckingResolver(self._resolve, self._is_allowed_address),
                    use_dns_cache=False,
                    force_close=True,
                    limit=_AT_ONCE,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed body could grow beyond the limit at once.
                headers={"Accept": "image/*", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class _CheckingResolver(AbstractResolver):
    """Gives the connector the addresses that it connects to, of which none may be refused."""

    def __init__(self, resolve: Resolve, is_allowed: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = list(dict.fromkeys(await self._resolve(host, port)))
        if not addresses:
            raise OSError("the name has no address")
        if not all(map(self._is_allowed, addresses)):
            raise _not_public()
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def _not_public() -> Forbidden:
    return Forbidden("Pictures are fetched from public addresses only.")
