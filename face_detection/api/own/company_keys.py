"""The API keys of companies, for those who administer them."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web
from pydantic import TypeAdapter

from face_detection.api.http.bodies import read_json, validate
from face_detection.api.operation import ACCESS, DIRECTORY, POOL, dump, json_response, large_json_response
from face_detection.api.own import company_schemas as schemas
from face_detection.api.own.companies import MAX_BODY, company_of, operation

_KEY = TypeAdapter(schemas.KeyRequest)


async def list_keys(request: web.Request) -> web.Response:
    """A company's keys, without their secrets."""
    keys = await asyncio.to_thread(request.app[DIRECTORY].keys, company_of(request))
    return await large_json_response(lambda: {"keys": [dump(schemas.KeyAnswer.of(key)) for key in keys]})


async def create_key(request: web.Request) -> web.Response:
    """Make a key."""
    company = company_of(request)
    wanted = validate(_KEY, await read_json(request, MAX_BODY))
    create = partial(
        request.app[ACCESS].create_key,
        company,
        wanted.name,
        wanted.rights,
        requests_per_minute=wanted.requests_per_minute,
        max_samples=wanted.max_samples,
        expires_at=wanted.expires_at,
    )
    key, text = await request.app[POOL].write(create)
    return json_response(dump(schemas.NewKeyAnswer.with_text(key, text)))


async def rotate_key(request: web.Request) -> web.Response:
    """Give a key a new secret."""
    key, text = await request.app[POOL].write(
        lambda: request.app[ACCESS].rotate_key(company_of(request), request.match_info["id"])
    )
    return json_response(dump(schemas.NewKeyAnswer.with_text(key, text)))


async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key."""
    key = await request.app[POOL].write(
        lambda: request.app[DIRECTORY].revoke_key(company_of(request), request.match_info["id"])
    )
    return json_response(dump(schemas.KeyAnswer.of(key)))


_KEYS = "/companies/{company}/keys"

OPERATIONS = (
    operation("GET", _KEYS, "List API keys", list_keys, schemas.KeysAnswer),
    operation("POST", _KEYS, "Make an API key; its text is shown once", create_key, schemas.NewKeyAnswer, _KEY),
    operation("POST", f"{_KEYS}/{{id}}/rotate", "Give an API key a new secret", rotate_key, schemas.NewKeyAnswer),
    operation("DELETE", f"{_KEYS}/{{id}}", "Revoke an API key for good", revoke_key, schemas.KeyAnswer),
)
