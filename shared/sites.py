"""Which names a service answers to, and which web pages may make a browser use it. No web framework here.

A browser sends requests wherever a page tells it to, from inside the visitor's network and without asking. Two checks
keep the pages of strangers out:

- of ``Host``: a stranger's domain name can be made to point to the service (DNS rebinding), whose answers then belong
  to the stranger's page. That takes a name, and addresses are none.
- of who sends: browsers say so in ``Sec-Fetch-Site`` (W3C Fetch Metadata), but only to ``https`` and to loopback;
  elsewhere ``Origin`` tells, or for a GET ``Referer``, which the page can leave out.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from functools import lru_cache

from shared.errors import Forbidden, HostNotAllowed
from shared.settings import is_loopback, split_bind

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\\?#\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Hosts:
    """The names that a service answers to.

    These are ``localhost`` and loopback addresses; for a service that other machines reach, its address (any address
    where it listens on all of them) and the names of the machine; and what is allowed besides.

    Args:
        bind: ``HOST:PORT`` at which the service listens.
        allowed: the setting ALLOWED_HOSTS.
    """

    def __init__(self, bind: str, allowed: str | None) -> None:
        name = split_bind(bind)[0].lower()
        self._own = _address(name)
        self._names = {"localhost", name}
        if not is_loopback(bind):
            machine = socket.gethostname().lower()
            self._names |= {machine, f"{machine.partition('.')[0]}.local"}
        self._allowed = [_split(entry.strip().lower()) for entry in (allowed or "").split(",") if entry.strip()]

    def check(self, host: str | None) -> None:
        """Return if a request with this ``Host`` is meant for the service; None, without one, is no browser's.

        Raises:
            HostNotAllowed: it is meant for somebody else.
        """
        if host is None:
            return
        name, port = _split(host.lower())
        address = _address(name)
        own = name in self._names if address is None else self._is_own(address)
        if not own and not any(_matches(name, port, *entry) for entry in self._allowed):
            raise HostNotAllowed(
                f"The service does not answer to the name {name[:255]!r}. If it is one of its names, add it to the "
                "setting ALLOWED_HOSTS."
            )

    def _is_own(self, address: Address) -> bool:
        if address.is_loopback:
            return True
        return self._own is not None and (self._own.is_unspecified or address == self._own)


@lru_cache(maxsize=64)
def hosts_of(bind: str, allowed: str | None) -> Hosts:
    """The names for settings, see ``Hosts``."""
    return Hosts(bind, allowed)


@lru_cache(maxsize=64)
def origins_of(setting: str | None) -> frozenset[str]:
    """The origins that the setting CORS_ORIGINS names."""
    return frozenset(normal_origin(entry) for entry in (setting or "").split(",") if entry.strip())


def normal_origin(origin: str) -> str:
    """An origin in its shortest form, as browsers send it: ``https://app.example.org``."""
    scheme, _, authority = origin.strip().lower().rstrip("/").partition("://")
    name, port = _split(authority)
    return f"{scheme}://{name}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


def refuse_other_sites(headers: Mapping[str, str], scheme: str, host: str | None, method: str) -> None:
    """Refuse what a page of another site makes a browser send. Who is no browser sends none of these headers.

    Args:
        headers: of the request, without regard to case.
        scheme: ``http`` or ``https``, as the sender sees it.
        host: ``Host``, as the sender sees it.
        method: of a request that changes something.

    Raises:
        Forbidden: the page is another site's, or a browser does not say which it is.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        own = site.lower() in ("same-origin", "none")
    elif origin is not None:
        own = _is_own(origin, scheme, host)
    elif (referer := headers.get("Referer")) is not None:
        own = _is_own("/".join(referer.split("/")[:3]), scheme, host)
    else:
        # Browsers send Origin with every other method. With GET they send nothing if the page does not want them to,
        # and what a page cannot change is that they call themselves Mozilla.
        own = not (method == "GET" and headers.get("User-Agent", "").startswith("Mozilla/"))
    if not own:
        raise Forbidden(
            "Requests from other sites are refused. If this one is yours, add its origin to the setting CORS_ORIGINS; "
            "behind a proxy, see TRUSTED_PROXIES."
        )


def _is_own(origin: str, scheme: str, host: str | None) -> bool:
    """Whether a page is the service's own, or the one of the same name behind TLS, which a proxy may have taken off."""
    return host is not None and normal_origin(origin) in {normal_origin(f"{one}://{host}") for one in (scheme, "https")}


def _split(authority: str) -> tuple[str, str | None]:
    """Name and port; what is neither is a name that nobody has."""
    found = _AUTHORITY.fullmatch(authority)
    return (found[1].rstrip("."), found[2]) if found else (authority, None)


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _matches(name: str, port: str | None, allowed: str, allowed_port: str | None) -> bool:
    if allowed_port not in (None, port):
        return False
    return name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed
