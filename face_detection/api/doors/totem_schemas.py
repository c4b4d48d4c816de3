"""Bodies of companies' requests."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.alias_generators import to_camel

from face_detection.api import schemas
from face_detection.api.validation import ForeignRequest, Numbered, Real, Whole, read_as_text
from face_detection.gallery.directory import MAX_INTEGER

NOBODY = 999_999_999
"""``idPerson`` where there is none; nobody is registered under it."""


class Status(IntEnum):
    """What became of a request."""

    FOUND = 1
    NOT_FOUND = 3
    REGISTERED = 6
    INVALID_REQUEST_CODE = 5001
    DEVICE_WITHOUT_SECTOR = 5002
    COMPANY_NOT_REGISTERED = 5005
    INCOMPATIBLE_IMAGE = 5009
    NO_SUCH_DEVICE = 5012
    INVALID_LONGITUDE = 5013
    INVALID_LATITUDE = 5014


class AppCode(IntEnum):
    """What a request wants."""

    IDENTIFY = 1
    IDENTIFY_OR_REGISTER = 2
    REGISTER = 3


# Numbers may come as text.
AnyWhole = Annotated[Whole, BeforeValidator(read_as_text)]
Number = Annotated[AnyWhole, Field(ge=0, le=MAX_INTEGER)]
Degrees = Annotated[Real, BeforeValidator(read_as_text)]


_WHOLE: TypeAdapter[int] = TypeAdapter(AnyWhole)


def _app_code(value: object) -> int:
    return _WHOLE.validate_python(value)


_CAMEL = ConfigDict(alias_generator=to_camel, loc_by_alias=False)


class CompanyRecognitionRequest(ForeignRequest):
    """One picture of one person, in one company. Numbers may be sent as text; further members are ignored."""

    model_config = _CAMEL

    request_number: Number | None = Field(default=None, description="Comes back in the answer.")
    app_code: Annotated[AppCode, BeforeValidator(_app_code)] = Field(
        description="1: who is this? 2: the same, and register whoever is not known. 3: register."
    )
    company_code: Annotated[str, Field(max_length=64), Numbered] = Field(description="Whose people.")
    capture_device_code: Number = Field(description="A device of the company that stands in a sector.")
    latitude: Annotated[Degrees, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Degrees, Field(ge=-180, le=180)] | None = None
    key_person: Number | None = Field(
        default=None, validate_default=True, description=f"Needed to register, ignored otherwise. Not {NOBODY}."
    )
    type_image: Annotated[AnyWhole, Field(ge=2, le=2)] = Field(
        description="2: base64, with or without data:image/…;base64, in front."
    )
    image_validate: str = Field(min_length=1, description="The picture; its main face counts.")

    @field_validator("key_person", mode="wrap")
    @classmethod
    def _need_key(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> int | None:
        if info.data.get("app_code", AppCode.IDENTIFY) is AppCode.IDENTIFY:
            return None
        number: int | None = validate(value)
        if number in (None, NOBODY):
            raise ValueError("is needed to register")
        return number


class CompanyRecognitionAnswer(BaseModel):
    """What became of the request."""

    model_config = _CAMEL

    request_number: int | None = Field(description="As in the request.")
    status: Status
    id_person: int | str = Field(
        description=f"Key of the person, {NOBODY} where there is none; text where the person's id is not a number."
    )


class CompanyRecognitionFailure(schemas.ErrorAnswer):
    """The body of an error that has no status of its own."""

    request_number: int | None = Field(None, alias="requestNumber", description="Left out where it is not known.")
