"""Companies: their settings, sectors, capture devices and API keys.

The operator administers all companies. An ADMIN key of a company administers that company alone; to it, any other
looks like one that does not exist. Unknown members of requests are refused: a misspelt limit must not pass for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeVar

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, TypeAdapter, model_validator

from face_detection.api.http.bodies import read_json, read_query, validate
from face_detection.api.operation import (
    ACCESS,
    CALLER,
    DIRECTORY,
    POOL,
    RECOGNITION,
    Handler,
    Operation,
    dump,
    json_response,
    large_json_response,
)
from face_detection.api.schemas import SuccessAnswer, parse_number
from face_detection.api.validation import Flag, Name, Numbered, OwnRequest, Real, Whole
from face_detection.gallery.directory import (
    MAX_EVENT_DAYS,
    MAX_INTEGER,
    MAX_NEIGHBOURS,
    MAX_REQUESTS_PER_MINUTE,
    TENANT_ID,
    UNKNOWN_TENANT,
    ApiKey,
    Device,
    Right,
    Sector,
    Tenant,
    TenantSettings,
)
from face_detection.gallery.sql.directory import Directory
from shared.errors import NotFound

Code = Annotated[Whole, Field(ge=0, le=MAX_INTEGER)]


def _only_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 time")
    return value


class Settings(OwnRequest):
    """How a company's requests are answered. In a request, what is left out keeps its value."""

    min_distance: Annotated[Real, Field(ge=0)] | None = Field(
        default=None,
        description="Threshold of requests that name none; null takes the installation's.",
    )
    false_match_rate: Annotated[Real, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Instead of `min_distance`, whose place it takes: the rate at which strangers may be named.",
    )
    rule: Literal["nearest", "vote"] = Field(
        default="nearest", description="Name a face after the nearest sample, or by a vote of the nearest ones."
    )
    neighbours: Whole = Field(default=5, ge=1, le=MAX_NEIGHBOURS, description="How many samples vote.")
    keep_crops: Flag = Field(default=False, description="Whether events keep the aligned face.")
    event_days: Annotated[Whole, Field(ge=0, le=MAX_EVENT_DAYS)] | None = Field(
        default=None,
        description="Days for which events are kept; null takes the installation's.",
    )

    liveness: Literal["optional", "required"] = Field(
        default="optional",
        description="Whether only faces that pass the liveness check are named (`required`), or where a request asks "
        "for the check; see docs/liveness.md.",
    )

    def changes(self) -> dict[str, Any]:
        """What the request names."""
        return self.model_dump(exclude_unset=True)


class CompanyRequest(OwnRequest):
    """A company to create."""

    company: Annotated[str, Field(pattern=f"^{TENANT_ID}$"), Numbered] = Field(
        description="Its code, which never changes."
    )
    name: Name
    settings: Settings = Settings()


class CompanyChange(OwnRequest):
    """What to change of a company."""

    name: Name | None = None
    settings: Settings = Settings()

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and not self.settings.changes():
            raise ValueError("There is nothing to change: send name or settings.")
        return self


class CompanyAnswer(BaseModel):
    """A company."""

    company: str
    name: str
    settings: Settings
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> CompanyAnswer:
        """The answer for a tenant."""
        settings = Settings.model_validate(tenant.settings, from_attributes=True)
        return cls(company=tenant.id, name=tenant.name, settings=settings, created_at=tenant.created_at)


class _PartRequest(OwnRequest):
    limit: Whole = Field(default=1000, ge=1, le=1000, description="Most entries of the answer.")


class CompaniesRequest(_PartRequest):
    """Which part of the companies."""

    after: str | None = Field(default=None, max_length=64, description="`next` of the answer before.")


class PlacesRequest(_PartRequest):
    """Which part of the sectors or devices."""

    after: Whole = Field(default=-1, ge=-1, le=MAX_INTEGER, description="`next` of the answer before.")


class CompaniesAnswer(BaseModel):
    """A part of the companies that the caller may administer, ordered by code."""

    companies: list[CompanyAnswer]
    next: str | None = Field(description="`after` of the next part; null in the last.")


class SectorRequest(OwnRequest):
    """What a sector is called."""

    name: Name


class SectorAnswer(BaseModel):
    """A sector."""

    code: int
    name: str


class SectorsAnswer(BaseModel):
    """A part of a company's sectors, ordered by code."""

    sectors: list[SectorAnswer]
    next: int | None = Field(description="`after` of the next part; null in the last.")


class DeviceRequest(OwnRequest):
    """What a capture device is called, and where it stands."""

    name: Name
    sector: Code | None = Field(default=None, description="Code of its sector, which must exist.")


class DeviceAnswer(BaseModel):
    """A capture device."""

    code: int
    name: str
    sector: int | None


class DevicesAnswer(BaseModel):
    """A part of a company's devices, ordered by code."""

    devices: list[DeviceAnswer]
    next: int | None = Field(description="`after` of the next part; null in the last.")


class KeyRequest(OwnRequest):
    """An API key to make."""

    name: Name
    rights: list[Right] = Field(min_length=1, max_length=len(Right), description="`admin` includes the others.")
    requests_per_minute: Annotated[Whole, Field(ge=1, le=MAX_REQUESTS_PER_MINUTE)] | None = Field(
        default=None,
        description="Most requests within any 60 seconds, for each process of the service; null is unlimited.",
    )
    max_samples: Annotated[Whole, Field(ge=0, le=MAX_INTEGER)] | None = Field(
        default=None,
        description="Samples up to which the key may fill the company's gallery; null is unlimited.",
    )
    expires_at: Annotated[AwareDatetime, BeforeValidator(_only_text)] | None = Field(
        default=None, description="With a time zone; null is never."
    )


class KeyAnswer(BaseModel):
    """An API key without its secret."""

    id: str
    company: str
    name: str
    rights: list[Right]
    requests_per_minute: int | None
    max_samples: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyAnswer:
        """The answer for a key."""
        return cls(**_members(key))


class NewKeyAnswer(KeyAnswer):
    """An API key with its text, which is shown this once."""

    key: str = Field(description="What requests send in `Authorization: Bearer` or `X-API-Key`.")

    @classmethod
    def with_text(cls, key: ApiKey, text: str) -> NewKeyAnswer:
        """The answer for a key that has just been made, or been given a new secret."""
        return cls(key=text, **_members(key))


class KeysAnswer(BaseModel):
    """A company's keys, oldest first; those that have expired or were revoked too."""

    keys: list[KeyAnswer]


def _members(key: ApiKey) -> dict[str, Any]:
    members = dict(vars(key))
    return members | {"company": members.pop("tenant"), "rights": sorted(key.rights)}


_COMPANY = TypeAdapter(CompanyRequest)
_CHANGE = TypeAdapter(CompanyChange)
_COMPANIES = TypeAdapter(CompaniesRequest)
_PLACES = TypeAdapter(PlacesRequest)
_KEY = TypeAdapter(KeyRequest)

T = TypeVar("T")
Place = TypeVar("Place", Sector, Device)

_MAX_BODY = 1 << 16

_ONE = "/companies/{company}"
_KEYS = f"{_ONE}/keys"


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
    return await _part("companies", left, wanted.limit, CompanyAnswer.of, lambda tenant: tenant.id)


async def create_company(request: web.Request) -> web.Response:
    """Create a company."""
    wanted = validate(_COMPANY, await read_json(request, _MAX_BODY))
    settings = TenantSettings(**wanted.settings.changes())
    await request.app[RECOGNITION].check_limit(settings)
    directory = request.app[DIRECTORY]
    tenant = await request.app[POOL].write(lambda: directory.create_tenant(wanted.company, wanted.name, settings))
    return json_response(dump(CompanyAnswer.of(tenant)))


async def get_company(request: web.Request) -> web.Response:
    """One company."""
    tenant = await asyncio.to_thread(request.app[DIRECTORY].tenant, _company_of(request))
    return json_response(dump(CompanyAnswer.of(tenant)))


async def change_company(request: web.Request) -> web.Response:
    """Rename a company, or change some of its settings."""
    company = _company_of(request)
    wanted = validate(_CHANGE, await read_json(request, _MAX_BODY))
    directory = request.app[DIRECTORY]
    if wanted.settings.false_match_rate is not None:
        present = (await asyncio.to_thread(directory.tenant, company)).settings
        await request.app[RECOGNITION].check_limit(present.changed(wanted.settings.changes()))
    tenant = await request.app[POOL].write(
        lambda: directory.update_tenant(company, wanted.name, wanted.settings.changes())
    )
    return json_response(dump(CompanyAnswer.of(tenant)))


async def delete_company(request: web.Request) -> web.Response:
    """Delete a company without people."""
    await request.app[POOL].write(lambda: request.app[DIRECTORY].delete_tenant(_company_of(request)))
    return json_response({"success": "The company has been removed."})


async def list_keys(request: web.Request) -> web.Response:
    """A company's keys, without their secrets."""
    keys = await asyncio.to_thread(request.app[DIRECTORY].keys, _company_of(request))
    return await large_json_response(lambda: {"keys": [dump(KeyAnswer.of(key)) for key in keys]})


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
    return json_response(dump(NewKeyAnswer.with_text(key, text)))


async def rotate_key(request: web.Request) -> web.Response:
    """Give a key a new secret."""
    key, text = await request.app[POOL].write(
        lambda: request.app[ACCESS].rotate_key(_company_of(request), request.match_info["id"])
    )
    return json_response(dump(NewKeyAnswer.with_text(key, text)))


async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key."""
    key = await request.app[POOL].write(
        lambda: request.app[DIRECTORY].revoke_key(_company_of(request), request.match_info["id"])
    )
    return json_response(dump(KeyAnswer.of(key)))


async def _part(
    name: str, left: Sequence[T], limit: int, show: Callable[[T], BaseModel], cursor: Callable[[T], str | int]
) -> web.Response:
    """The first of what is left of a list, and where the next part begins."""
    page = left[:limit]
    following = cursor(page[-1]) if len(left) > limit else None
    return await large_json_response(lambda: {name: [dump(show(one)) for one in page], "next": following})


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
        "Companies",
        right=Right.ADMIN,
        operator=operator,
        answer=TypeAdapter(answer),
        body=body,
        query=query,
        errors=(400, 404) if method == "GET" else (400, 404, 409, 413),
    )


def _places(
    name: str,
    title: str,
    changing: str,
    deleting: str,
    kind: type[Place],
    wanted: type[BaseModel],
    answer: type[BaseModel],
    part: type[BaseModel],
    all_of: Callable[[Directory, str], Sequence[Place]],
    one_of: Callable[[Directory, str, int], Place],
    put: Callable[[Directory, Place], None],
    delete: Callable[[Directory, str, int], None],
) -> tuple[Operation, ...]:
    """The operations on what a company has several of, each with a code: its sectors, or its capture devices.

    Args:
        name: in addresses and answers.
        title, changing, deleting: for the documentation.
        kind: of the directory's records; what a request says beside the code are its members.
        wanted, answer, part: models of a request that puts one, and of the answers with one and with several.
        all_of, one_of, put, delete: what the directory does.
    """

    path, body = f"{_ONE}/{name}s", TypeAdapter(wanted)

    def show(place: Place) -> BaseModel:
        return answer.model_validate(place, from_attributes=True)

    async def list_all(request: web.Request) -> web.Response:
        page = validate(_PLACES, read_query(request))
        places = await asyncio.to_thread(all_of, request.app[DIRECTORY], _company_of(request))
        left = [place for place in places if place.code > page.after]
        return await _part(f"{name}s", left, page.limit, show, lambda place: place.code)

    async def get_one(request: web.Request) -> web.Response:
        company, code = _company_of(request), parse_number(request.match_info["code"])
        return json_response(dump(show(await asyncio.to_thread(one_of, request.app[DIRECTORY], company, code))))

    async def put_one(request: web.Request) -> web.Response:
        company, code = _company_of(request), parse_number(request.match_info["code"])
        said = validate(body, await read_json(request, _MAX_BODY))
        place = kind(company, code, **dict(said))
        await request.app[POOL].write(lambda: put(request.app[DIRECTORY], place))
        return json_response(dump(show(place)))

    async def delete_one(request: web.Request) -> web.Response:
        company, code = _company_of(request), parse_number(request.match_info["code"])
        await request.app[POOL].write(lambda: delete(request.app[DIRECTORY], company, code))
        return json_response({"success": f"The {name} has been removed."})

    return (
        _operation("GET", path, f"List {title}s", list_all, part, query=PlacesRequest),
        _operation("GET", f"{path}/{{code}}", f"One {title}", get_one, answer),
        _operation("PUT", f"{path}/{{code}}", changing, put_one, answer, body),
        _operation("DELETE", f"{path}/{{code}}", deleting, delete_one, SuccessAnswer),
    )


OPERATIONS = (
    _operation(
        "GET",
        "/companies",
        "List the companies that the caller administers",
        list_companies,
        CompaniesAnswer,
        query=CompaniesRequest,
    ),
    _operation("POST", "/companies", "Create a company", create_company, CompanyAnswer, _COMPANY, operator=True),
    _operation("GET", _ONE, "One company", get_company, CompanyAnswer),
    _operation("PATCH", _ONE, "Rename a company or change its settings", change_company, CompanyAnswer, _CHANGE),
    _operation("DELETE", _ONE, "Delete a company that has no people", delete_company, SuccessAnswer, operator=True),
    *_places(
        "sector",
        "sector",
        "Create or rename a sector",
        "Delete a sector without devices",
        Sector,
        SectorRequest,
        SectorAnswer,
        SectorsAnswer,
        Directory.sectors,
        Directory.sector,
        Directory.put_sector,
        Directory.delete_sector,
    ),
    *_places(
        "device",
        "capture device",
        "Create or change a capture device",
        "Delete a capture device",
        Device,
        DeviceRequest,
        DeviceAnswer,
        DevicesAnswer,
        Directory.devices,
        Directory.device,
        Directory.put_device,
        Directory.delete_device,
    ),
    _operation("GET", _KEYS, "List API keys", list_keys, KeysAnswer),
    _operation("POST", _KEYS, "Make an API key; its text is shown once", create_key, NewKeyAnswer, _KEY),
    _operation("POST", f"{_KEYS}/{{id}}/rotate", "Give an API key a new secret", rotate_key, NewKeyAnswer),
    _operation("DELETE", f"{_KEYS}/{{id}}", "Revoke an API key for good", revoke_key, KeyAnswer),
)
