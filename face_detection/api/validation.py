"""What the members of requests may be, what becomes of those that nobody knows, and how faults are worded.

In JSON a number is a number and a truth value is one; in the fields of forms and in queries both are text
(``FieldText``), and are read from it.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from face_detection.naming import MAX_ID, MAX_NAME, normal_id, normal_name, normal_text, storable
from shared.errors import InvalidRequest

log = logging.getLogger(__name__)

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_REAL = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}

COLLECTION = "collection"
"""Query parameter that says which of a company's galleries a request acts on, where an operation takes it."""

_MOST_SHOWN = 5
_MOST_NAME = 50
_MOST_IGNORED = 20
_MOST_LOGGED = 1000
_ALIKE = 0.85
"""Likeness from which on a name is a slip of the pen, and not something that another service knows."""


class FieldText(str):
    """Text of a query or of a form's field, which numbers and truth values are read from."""

    __slots__ = ()


def read_as_text(value: object) -> object:
    """For members that clients of other services send as text, in JSON too."""
    return FieldText(value) if type(value) is str else value


def _whole(value: object) -> object:
    if isinstance(value, FieldText) and _WHOLE.fullmatch(value):
        return int(value)
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


def _real(value: object) -> object:
    number: object = value
    if isinstance(value, FieldText):
        number = float(value) if _REAL.fullmatch(value) else None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError("must be a number")
    try:
        finite = math.isfinite(number)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("must be a finite number")
    return number


def _flag(value: object) -> object:
    if isinstance(value, FieldText) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _numbered(value: object) -> object:
    """Some clients number their people. Taken as they are written: 1.0 and 1e3 might be anybody."""
    if isinstance(value, bool | float):
        raise ValueError("must be text or a whole number")
    return str(value) if isinstance(value, int) else value


def _worded(check: Callable[[str], str]) -> AfterValidator:
    """A check of ``naming`` for pydantic."""

    def validate(text: str) -> str:
        try:
            return check(text)
        except InvalidRequest as error:
            raise ValueError(error.message) from None

    return AfterValidator(validate)


Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_real)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Numbered = BeforeValidator(_numbered)
Text = Annotated[str, _worded(normal_text)]
Id = Annotated[
    str,
    _worded(normal_id),
    Numbered,
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_ID}, {"type": "integer"}],
            "description": "Not blank, not `.` or `..`, no control characters. A number is taken as it is written.",
        },
        mode="validation",
    ),
]
Name = Annotated[
    str,
    _worded(normal_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME, "description": "Not blank."}),
]
StoredId = Annotated[str, _worded(storable), Field(min_length=1, max_length=MAX_ID), Numbered]
"""The id of somebody who may be there from before ids were checked and composed."""


class OwnRequest(BaseModel):
    """A request at a door of this service's own: a member that it does not know is refused, with the nearest known."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, members: Any) -> Any:
        if isinstance(members, dict):
            known = names_of(cls)
            if unknown := [name for name in members if name not in known]:
                raise PydanticCustomError("unknown_members", "{fault}", {"fault": unknown_fault(unknown, known)})
        return members


class ForeignRequest(BaseModel):
    """A request at a door whose clients were written for another service: a member that nobody knows is ignored.

    But for ``COLLECTION``: whoever names one must not be served from another.
    """

    model_config = ConfigDict(extra="ignore")

    refuses_slips: ClassVar[bool] = False
    """Whether a name that is all but a known one is refused."""

    @model_validator(mode="before")
    @classmethod
    def _remark_unknown(cls, members: Any) -> Any:
        if isinstance(members, dict):
            known = names_of(cls)
            if COLLECTION in members and COLLECTION not in known:
                raise PydanticCustomError("unknown_members", "{fault}", {"fault": unknown_fault([COLLECTION], known)})
            unknown = [name for name in members if name not in known][:_MOST_IGNORED]
            slips = [name for name in unknown if get_close_matches(name[:_MOST_NAME], known, 1, _ALIKE)]
            if cls.refuses_slips and slips:
                raise PydanticCustomError("unknown_members", "{fault}", {"fault": unknown_fault(slips, known)})
            log_ignored(cls.__name__, unknown)
        return members


def names_of(model: type[BaseModel]) -> frozenset[str]:
    """What the members of a request may be called."""
    names: set[str] = set()
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names |= {choice for choice in alias.choices if isinstance(choice, str)}
        elif isinstance(alias, str):
            names.add(alias)
        if alias is None or by_name:
            names.add(name)
    return frozenset(names)


def unknown_fault(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Says which names are not known, and which known ones are nearest."""
    names, choices = list(unknown), sorted(known)
    faults = []
    for name in names[:_MOST_SHOWN]:
        nearest = get_close_matches(name[:_MOST_NAME].lower(), choices, 1)
        faults.append(f"{shown(name)} is not known here" + (f", did you mean {nearest[0]}?" if nearest else ""))
    more = f"; and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return "; ".join(faults) + more + f" (known: {', '.join(choices) or 'none'})"


_logged: set[tuple[str, str]] = set()


def log_ignored(door: str, names: Iterable[str]) -> None:
    """Log names that are ignored: each of a door once in the life of the process."""
    for name in names:
        if (door, name) not in _logged and len(_logged) < _MOST_LOGGED:
            _logged.add((door, name))
            log.info("ignored what is not known", extra={"door": door, "member": shown(name)})


def faults_of(error: ValidationError) -> str:
    """The first faults of a request: the member, and what it may be."""
    faults = error.errors(include_url=False)
    worded = [f"{_path(fault['loc'])}{_worded_fault(fault)}" for fault in faults[:_MOST_SHOWN]]
    more = f"; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else ""
    return "; ".join(worded) + more


_FAULTS: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "datetime_type": "must be an ISO 8601 time",
    "datetime_parsing": "must be an ISO 8601 time",
    "datetime_from_date_parsing": "must be an ISO 8601 time",
    "datetime_object_invalid": "must be an ISO 8601 time",
    "timezone_aware": "must be a time with a time zone",
    "extra_forbidden": "is not known here",
    "string_pattern_mismatch": "has characters that it may not have",
}
"""How pydantic's types of errors are worded; what they mention is in an error's context."""


def _worded_fault(fault: ErrorDetails) -> str:
    """What is wrong, in the words of the field."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "unknown_members":
        return str(context["fault"])
    if kind in ("too_long", "too_short"):
        what = "characters" if isinstance(fault["input"], str) else "entries"
        bound, number = ("most", "max_length") if kind == "too_long" else ("least", "min_length")
        return f"at {bound} {context[number]} {what}"
    return _FAULTS.get(kind, "is not what it must be").format_map(context)


def _path(location: tuple[int | str, ...]) -> str:
    """Where a fault is; nothing for the body as a whole."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{path.lstrip('.')}: " if path else ""


def shown(name: str) -> str:
    """A name that a client has chosen: short, and without anything that steers a terminal."""
    return ascii(name[:_MOST_NAME])[1:-1]
