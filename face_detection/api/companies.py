"""Companies, their settings, sectors and capture devices.

The operator administers all companies. An ADMIN key of a company administers that company alone; to it, any other
looks like one that does not exist.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from face_detection.api import company_schemas as schemas
from face_detection.api.bodies import read_json, validate
from face_detection.api.operations import CALLER, DIRECTORY, Handler, Operation, dump, json_response
from face_detection.api.schemas import SuccessAnswer, parse_number
from face_detection.gallery.directory import UNKNOWN_TENANT, Device, Right, Sector, TenantSettings
from shared.errors import NotFound

_COMPANY = TypeAdapter(schemas.CompanyRequest)
_CHANGE = TypeAdapter(schemas.CompanyChange)
_SECTOR = TypeAdapter(schemas.SectorRequest)
_DEVICE = TypeAdapter(schemas.DeviceRequest)

MAX_BODY = 1 << 16

TAG = "Companies"


def company_of(request: web.Request) -> str:
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
    return json_response({"companies": [dump(schemas.CompanyAnswer.of(tenant)) for tenant in tenants]})


async def create_company(request: web.Request) -> web.Response:
    """Create a company."""
    wanted = validate(_COMPANY, await read_json(request, MAX_BODY))
    settings = TenantSettings(**wanted.settings.changes())
    directory = request.app[DIRECTORY]
    tenant = await asyncio.to_thread(directory.create_tenant, wanted.company, wanted.name, settings)
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def get_company(request: web.Request) -> web.Response:
    """One company."""
    tenant = await asyncio.to_thread(request.app[DIRECTORY].tenant, company_of(request))
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def change_company(request: web.Request) -> web.Response:
    """Rename a company, or change some of its settings."""
    company = company_of(request)
    wanted = validate(_CHANGE, await read_json(request, MAX_BODY))
    directory = request.app[DIRECTORY]
    tenant = await asyncio.to_thread(directory.update_tenant, company, wanted.name, wanted.settings.changes())
    return json_response(dump(schemas.CompanyAnswer.of(tenant)))


async def delete_company(request: web.Request) -> web.Response:
    """Delete a company without people."""
    await asyncio.to_thread(request.app[DIRECTORY].delete_tenant, company_of(request))
    return json_response({"success": "The company has been removed."})


async def list_sectors(request: web.Request) -> web.Response:
    """A company's sectors."""
    sectors = await asyncio.to_thread(request.app[DIRECTORY].sectors, company_of(request))
    return json_response({"sectors": [dump(schemas.SectorAnswer.of(sector)) for sector in sectors]})


async def get_sector(request: web.Request) -> web.Response:
    """One sector."""
    sector = await asyncio.to_thread(request.app[DIRECTORY].sector, company_of(request), _code(request))
    return json_response(dump(schemas.SectorAnswer.of(sector)))


async def put_sector(request: web.Request) -> web.Response:
    """Create or rename a sector."""
    company, code = company_of(request), _code(request)
    wanted = validate(_SECTOR, await read_json(request, MAX_BODY))
    sector = Sector(company, code, wanted.name)
    await asyncio.to_thread(request.app[DIRECTORY].put_sector, sector)
    return json_response(dump(schemas.SectorAnswer.of(sector)))


async def delete_sector(request: web.Request) -> web.Response:
    """Delete a sector without devices."""
    await asyncio.to_thread(request.app[DIRECTORY].delete_sector, company_of(request), _code(request))
    return json_response({"success": "The sector has been removed."})


async def list_devices(request: web.Request) -> web.Response:
    """A company's devices."""
    devices = await asyncio.to_thread(request.app[DIRECTORY].devices, company_of(request))
    return json_response({"devices": [dump(schemas.DeviceAnswer.of(device)) for device in devices]})


async def get_device(request: web.Request) -> web.Response:
    """One device."""
    device = await asyncio.to_thread(request.app[DIRECTORY].device, company_of(request), _code(request))
    return json_response(dump(schemas.DeviceAnswer.of(device)))


async def put_device(request: web.Request) -> web.Response:
    """Create, rename or move a device."""
    company, code = company_of(request), _code(request)
    wanted = validate(_DEVICE, await read_json(request, MAX_BODY))
    device = Device(company, code, wanted.name, wanted.sector)
    await asyncio.to_thread(request.app[DIRECTORY].put_device, device)
    return json_response(dump(schemas.DeviceAnswer.of(device)))


async def delete_device(request: web.Request) -> web.Response:
    """Delete a device."""
    await asyncio.to_thread(request.app[DIRECTORY].delete_device, company_of(request), _code(request))
    return json_response({"success": "The device has been removed."})


def _code(request: web.Request) -> int:
    return parse_number(request.match_info["code"])


def operation(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    answer: type[BaseModel],
    body: TypeAdapter[Any] | None = None,
    *,
    operator: bool = False,
) -> Operation:
    """An operation of this API: its caller needs the right ADMIN."""
    return Operation(
        method,
        path,
        summary,
        handler,
        TAG,
        right=Right.ADMIN,
        operator=operator,
        answer=TypeAdapter(answer),
        body=body,
        errors=(400, 404) if method == "GET" else (400, 404, 409, 413),
    )


_ONE = "/companies/{company}"

OPERATIONS = (
    operation(
        "GET", "/companies", "List the companies that the caller administers", list_companies, schemas.CompaniesAnswer
    ),
    operation("POST", "/companies", "Create a company", create_company, schemas.CompanyAnswer, _COMPANY, operator=True),
    operation("GET", _ONE, "One company", get_company, schemas.CompanyAnswer),
    operation("PATCH", _ONE, "Rename a company or change its settings", change_company, schemas.CompanyAnswer, _CHANGE),
    operation("DELETE", _ONE, "Delete a company that has no people", delete_company, SuccessAnswer, operator=True),
    operation("GET", f"{_ONE}/sectors", "List sectors", list_sectors, schemas.SectorsAnswer),
    operation("GET", f"{_ONE}/sectors/{{code}}", "One sector", get_sector, schemas.SectorAnswer),
    operation(
        "PUT", f"{_ONE}/sectors/{{code}}", "Create or rename a sector", put_sector, schemas.SectorAnswer, _SECTOR
    ),
    operation("DELETE", f"{_ONE}/sectors/{{code}}", "Delete a sector without devices", delete_sector, SuccessAnswer),
    operation("GET", f"{_ONE}/devices", "List capture devices", list_devices, schemas.DevicesAnswer),
    operation("GET", f"{_ONE}/devices/{{code}}", "One capture device", get_device, schemas.DeviceAnswer),
    operation(
        "PUT",
        f"{_ONE}/devices/{{code}}",
        "Create or change a capture device",
        put_device,
        schemas.DeviceAnswer,
        _DEVICE,
    ),
    operation("DELETE", f"{_ONE}/devices/{{code}}", "Delete a capture device", delete_device, SuccessAnswer),
)
