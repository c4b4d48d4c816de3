"""Bodies of the companies' API. Unknown members are refused: a misspelt limit must not pass for none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, model_validator

from face_detection.api.validation import Flag, Name, Numbered, OwnRequest, Real, Whole
from face_detection.gallery.directory import (
    MAX_EVENT_DAYS,
    MAX_INTEGER,
    MAX_NEIGHBOURS,
    MAX_REQUESTS_PER_MINUTE,
    TENANT_ID,
    ApiKey,
    Device,
    Right,
    Sector,
    Tenant,
)

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
    rule: Literal["nearest", "vote"] = Field(
        default="nearest", description="Name a face after the nearest sample, or by a vote of the nearest ones."
    )
    neighbours: Whole = Field(default=5, ge=1, le=MAX_NEIGHBOURS, description="How many samples vote.")
    keep_crops: Flag = Field(default=False, description="Whether events keep the aligned face.")
    event_days: Annotated[Whole, Field(ge=0, le=MAX_EVENT_DAYS)] | None = Field(
        default=None,
        description="Days for which events are kept; null takes the installation's.",
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
        settings = Settings(**vars(tenant.settings))
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

    @classmethod
    def of(cls, sector: Sector) -> SectorAnswer:
        """The answer for a sector."""
        return cls(code=sector.code, name=sector.name)


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

    @classmethod
    def of(cls, device: Device) -> DeviceAnswer:
        """The answer for a device."""
        return cls(code=device.code, name=device.name, sector=device.sector)


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
