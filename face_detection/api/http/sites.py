"""Which names a request may be for, and which web pages may make a browser send it (shared/sites.py says why).

The web apps whose origins the setting CORS_ORIGINS names may use the service as its own pages do (CORS, the Fetch
standard). They send their API key in a header: the service has no cookies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import CIMultiDict

from face_detection.api.http.bodies import SETTINGS
from face_detection.api.http.forwarded import sent
from shared.sites import hosts_of, normal_origin, origins_of, refuse_other_sites

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


def route_of(request: web.Request) -> str:
    """The route's pattern, which has no ids in it, without BASE_PATH."""
    resource = request.match_info.route.resource
    if resource is None:
        return "unknown"
    base = request.app[SETTINGS].base_path
    return resource.canonical.removeprefix(base) if base else resource.canonical


@web.middleware
async def refuse_strangers_pages(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
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
