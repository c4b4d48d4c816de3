"""Bodies of the companies' API. Unknown members are refused: a misspelt limit must not pass for none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from face_detection.gallery.directory import (
    MAX_EVENT_DAYS,
    MAX_INTEGER,
    MAX_NAME,
    MAX_NEIGHBOURS,
    MAX_REQUESTS_PER_MINUTE,
    TENANT_ID,
    ApiKey,
    Device,
    Right,
    Sector,
    Tenant,
)

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Code = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Settings(_Request):
    """How a company's requests are answered. In a request, what is left out keeps its value."""

    min_distance: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Threshold of requests that name none; null takes the installation's.",
    )
    rule: Literal["nearest", "vote"] = Field(
        default="nearest", description="Name a face after the nearest sample, or by a vote of the nearest ones."
    )
    neighbours: int = Field(default=5, ge=1, le=MAX_NEIGHBOURS, description="How many samples vote.")
    keep_crops: bool = Field(default=False, description="Whether events keep the aligned face.")
    event_days: int | None = Field(
        default=None,
        ge=0,
        le=MAX_EVENT_DAYS,
        description="Days for which events are kept; null takes the installation's.",
    )

    def changes(self) -> dict[str, Any]:
        """What the request names."""
        return self.model_dump(exclude_unset=True)


class CompanyRequest(_Request):
    """A company to create."""

    company: str = Field(
        pattern=f"^{TENANT_ID}$", coerce_numbers_to_str=True, description="Its code, which never changes."
    )
    name: Name
    settings: Settings = Settings()


class CompanyChange(_Request):
    """What to change of a company."""

    name: Name | None = None
    settings: Settings = Settings()


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


class CompaniesAnswer(BaseModel):
    """The companies that the caller may administer, ordered by code."""

    companies: list[CompanyAnswer]


class SectorRequest(_Request):
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
    """A company's sectors, ordered by code."""

    sectors: list[SectorAnswer]


class DeviceRequest(_Request):
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
    """A company's devices, ordered by code."""

    devices: list[DeviceAnswer]


class KeyRequest(_Request):
    """An API key to make."""

    name: Name
    rights: list[Right] = Field(min_length=1, max_length=len(Right), description="`admin` includes the others.")
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=MAX_REQUESTS_PER_MINUTE,
        description="Most requests within any 60 seconds, for each process of the service; null is unlimited.",
    )
    max_samples: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INTEGER,
        description="Samples up to which the key may fill the company's gallery; null is unlimited.",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="With a time zone; null is never.")


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
