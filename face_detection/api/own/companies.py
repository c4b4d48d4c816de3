"""Companies: their settings, sectors, capture devices and API keys.

The operator administers all companies. An ADMIN key of a company administers that company alone; to it, any other
looks like one that does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.api.http.bodies import read_json, read_query, validate
from face_detection.api.operation import (
    ACCESS,
    CALLER,
    DIRECTORY,
    POOL,
    Handler,
    Operation,
    dump,
    json_response,
    large_json_response,
)
from face_detection.api.own import company_schemas as schemas
from face_detection.api.schemas import SuccessAnswer, parse_number
from face_detection.gallery.directory import UNKNOWN_TENANT, Device, Right, Sector, TenantSettings
from shared.errors import NotFound

_COMPANY = TypeAdapter(schemas.CompanyRequest)
_CHANGE = TypeAdapter(schemas.CompanyChange)
_SECTOR = TypeAdapter(schemas.SectorRequest)
_DEVICE = TypeAdapter(schemas.DeviceRequest)
_COMPANIES = TypeAdapter(schemas.CompaniesRequest)
_PLACES = TypeAdapter(schemas.PlacesRequest)
_KEY = TypeAdapter(schemas.KeyRequest)

T = TypeVar("T")

_MAX_BODY = 1 << 16

_TAG = "Companies"


def _company_of(request: web.Request) -> str:
    """The company in the address, which the caller administers; whether it exists is found out later.

    Raises:
        NotFound: it is not the caller's.
    """
    caller, company = request[CALLER], request.match_info["company"]
    if not caller.operator and caller.tenant != company:
        raise NotFound(UNKNOWN_TENANT)
    return company


async def list_companies(request: web.Request) -> web.Response:
    """The companies that the caller administers."""
    caller, directory = request[CALLER], request.app[DIRECTORY]
    if caller.operator:
        tenants = await asyncio.to_thread(directory.tenants)
    else:
        tenants = [await asyncio.to_thread(directory.tenant, caller.tenant)]
    wanted = validate(_COMPANIES, read_query(request))
    after = wanted.after
    left = [tenant for tenant in tenants if after is None or tenant.id > after]
    return await _part("companies", left, wanted.limit, schemas.CompanyAnswer.of, lambda tenant: tenant.id)


async def create_company(request: web.Request) -> web.Response:
    """Create a company."""
    wanted = validate(_COMPANY, await read_json(request, _MAX_BODY))
    settings = TenantSettings(**wanted.settings.changes())
    directory = request.app[DIRECTORY]
    tenant = await request.app[POOL].write(lambda: directory.create_tenant(wanted.company, wanted.name, settings))
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def get_company(request: web.Request) -> web.Response:
    """One company."""
    tenant = await asyncio.to_thread(request.app[DIRECTORY].tenant, _company_of(request))
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def change_company(request: web.Request) -> web.Response:
    """Rename a company, or change some of its settings."""
    company = _company_of(request)
    wanted = validate(_CHANGE, await read_json(request, _MAX_BODY))
    directory = request.app[DIRECTORY]
    tenant = await request.app[POOL].write(
        lambda: directory.update_tenant(company, wanted.name, wanted.settings.changes())
    )
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def delete_company(request: web.Request) -> web.Response:
    """Delete a company without people."""
    await request.app[POOL].write(lambda: request.app[DIRECTORY].delete_tenant(_company_of(request)))
    return json_response({"success": "The company has been removed."})


async def list_sectors(request: web.Request) -> web.Response:
    """A company's sectors."""
    wanted = validate(_PLACES, read_query(request))
    sectors = await asyncio.to_thread(request.app[DIRECTORY].sectors, _company_of(request))
    left = [sector for sector in sectors if sector.code > wanted.after]
    return await _part("sectors", left, wanted.limit, schemas.SectorAnswer.of, lambda sector: sector.code)


async def get_sector(request: web.Request) -> web.Response:
    """One sector."""
    sector = await asyncio.to_thread(request.app[DIRECTORY].sector, _company_of(request), _code(request))
    return json_response(dump(schemas.SectorAnswer.of(sector)))


async def put_sector(request: web.Request) -> web.Response:
    """Create or rename a sector."""
    company, code = _company_of(request), _code(request)
    wanted = validate(_SECTOR, await read_json(request, _MAX_BODY))
    sector = Sector(company, code, wanted.name)
    await request.app[POOL].write(lambda: request.app[DIRECTORY].put_sector(sector))
    return json_response(dump(schemas.SectorAnswer.of(sector)))


async def delete_sector(request: web.Request) -> web.Response:
    """Delete a sector without devices."""
    await request.app[POOL].write(lambda: request.app[DIRECTORY].delete_sector(_company_of(request), _code(request)))
    return json_response({"success": "The sector has been removed."})


async def list_devices(request: web.Request) -> web.Response:
    """A company's devices."""
    wanted = validate(_PLACES, read_query(request))
    devices = await asyncio.to_thread(request.app[DIRECTORY].devices, _company_of(request))
    left = [device for device in devices if device.code > wanted.after]
    return await _part("devices", left, wanted.limit, schemas.DeviceAnswer.of, lambda device: device.code)


async def get_device(request: web.Request) -> web.Response:
    """One device."""
    device = await asyncio.to_thread(request.app[DIRECTORY].device, _company_of(request), _code(request))
    return json_response(dump(schemas.DeviceAnswer.of(device)))


async def put_device(request: web.Request) -> web.Response:
    """Create, rename or move a device."""
    company, code = _company_of(request), _code(request)
    wanted = validate(_DEVICE, await read_json(request, _MAX_BODY))
    device = Device(company, code, wanted.name, wanted.sector)
    await request.app[POOL].write(lambda: request.app[DIRECTORY].put_device(device))
    return json_response(dump(schemas.DeviceAnswer.of(device)))


async def delete_device(request: web.Request) -> web.Response:
    """Delete a device."""
    await request.app[POOL].write(lambda: request.app[DIRECTORY].delete_device(_company_of(request), _code(request)))
    return json_response({"success": "The device has been removed."})


async def list_keys(request: web.Request) -> web.Response:
    """A company's keys, without their secrets."""
    keys = await asyncio.to_thread(request.app[DIRECTORY].keys, _company_of(request))
    return await large_json_response(lambda: {"keys": [dump(schemas.KeyAnswer.of(key)) for key in keys]})


async def create_key(request: web.Request) -> web.Response:
    """Make a key."""
    company = _company_of(request)
    wanted = validate(_KEY, await read_json(request, _MAX_BODY))
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
        lambda: request.app[ACCESS].rotate_key(_company_of(request), request.match_info["id"])
    )
    return json_response(dump(schemas.NewKeyAnswer.with_text(key, text)))


async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key."""
    key = await request.app[POOL].write(
        lambda: request.app[DIRECTORY].revoke_key(_company_of(request), request.match_info["id"])
    )
    return json_response(dump(schemas.KeyAnswer.of(key)))


async def _part(
    name: str, left: Sequence[T], limit: int, show: Callable[[T], BaseModel], cursor: Callable[[T], str | int]
) -> web.Response:
    """The first of what is left of a list, and where the next part begins."""
    page = left[:limit]
    following = cursor(page[-1]) if len(left) > limit else None
    return await large_json_response(lambda: {name: [dump(show(one)) for one in page], "next": following})


def _code(request: web.Request) -> int:
    return parse_number(request.match_info["code"])


def _operation(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    answer: type[BaseModel],
    body: TypeAdapter[Any] | None = None,
    *,
    query: type[BaseModel] | None = None,
    operator: bool = False,
) -> Operation:
    """An operation of this API: its caller needs the right ADMIN."""
    return Operation(
        method,
        path,
        summary,
        handler,
        _TAG,
        right=Right.ADMIN,
        operator=operator,
        answer=TypeAdapter(answer),
        body=body,
        query=query,
        errors=(400, 404) if method == "GET" else (400, 404, 409, 413),
    )


_ONE = "/companies/{company}"
_KEYS = "/companies/{company}/keys"

OPERATIONS = (
    _operation(
        "GET",
        "/companies",
        "List the companies that the caller administers",
        list_companies,
        schemas.CompaniesAnswer,
        query=schemas.CompaniesRequest,
    ),
    _operation(
        "POST", "/companies", "Create a company", create_company, schemas.CompanyAnswer, _COMPANY, operator=True
    ),
    _operation("GET", _ONE, "One company", get_company, schemas.CompanyAnswer),
    _operation(
        "PATCH", _ONE, "Rename a company or change its settings", change_company, schemas.CompanyAnswer, _CHANGE
    ),
    _operation("DELETE", _ONE, "Delete a company that has no people", delete_company, SuccessAnswer, operator=True),
    _operation(
        "GET", f"{_ONE}/sectors", "List sectors", list_sectors, schemas.SectorsAnswer, query=schemas.PlacesRequest
    ),
    _operation("GET", f"{_ONE}/sectors/{{code}}", "One sector", get_sector, schemas.SectorAnswer),
    _operation(
        "PUT", f"{_ONE}/sectors/{{code}}", "Create or rename a sector", put_sector, schemas.SectorAnswer, _SECTOR
    ),
    _operation("DELETE", f"{_ONE}/sectors/{{code}}", "Delete a sector without devices", delete_sector, SuccessAnswer),
    _operation(
        "GET",
        f"{_ONE}/devices",
        "List capture devices",
        list_devices,
        schemas.DevicesAnswer,
        query=schemas.PlacesRequest,
    ),
    _operation("GET", f"{_ONE}/devices/{{code}}", "One capture device", get_device, schemas.DeviceAnswer),
    _operation(
        "PUT",
        f"{_ONE}/devices/{{code}}",
        "Create or change a capture device",
        put_device,
        schemas.DeviceAnswer,
        _DEVICE,
    ),
    _operation("DELETE", f"{_ONE}/devices/{{code}}", "Delete a capture device", delete_device, SuccessAnswer),
    _operation("GET", _KEYS, "List API keys", list_keys, schemas.KeysAnswer),
    _operation("POST", _KEYS, "Make an API key; its text is shown once", create_key, schemas.NewKeyAnswer, _KEY),
    _operation("POST", f"{_KEYS}/{{id}}/rotate", "Give an API key a new secret", rotate_key, schemas.NewKeyAnswer),
    _operation("DELETE", f"{_KEYS}/{{id}}", "Revoke an API key for good", revoke_key, schemas.KeyAnswer),
)
