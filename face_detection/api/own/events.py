"""The event log: who was enrolled and recognised, when, where, by which key and device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, WithJsonSchema

from face_detection.api import schemas
from face_detection.api.http.bodies import read_query, validate
from face_detection.api.operation import CALLER, PEOPLE, Operation, dump, large_json_response
from face_detection.api.validation import OwnRequest, StoredId, Whole
from face_detection.gallery.directory import MAX_INTEGER, Right
from face_detection.gallery.events import Event, EventFilter, EventKind
from face_detection.gallery.people import PAGE_BYTES
from shared.times import moment_of

_TIMES = "ISO 8601 (UTC unless it says otherwise), or seconds or milliseconds since 1970."


def _moment(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 time")
    return moment_of(value)


Moment = Annotated[int, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]

_EVENT_BYTES = 350
"""Of an event as JSON, beside id and name."""


class EventsRequest(OwnRequest):
    """Which events."""

    limit: Whole = Field(default=100, ge=1, le=1000, description="Most entries on the page.")
    before: Annotated[Whole, Field(ge=1, le=2**63 - 1)] | None = Field(
        default=None, description="`next` of the page before."
    )
    person: StoredId | None = Field(default=None, description="Id.")
    kind: EventKind | None = None
    device: Annotated[Whole, Field(ge=0, le=MAX_INTEGER)] | None = Field(
        default=None, description="Code of the capture device."
    )
    since: Moment | None = Field(default=None, description=f"Only what happened then or later. {_TIMES}")
    until: Moment | None = Field(default=None, description=f"Only what happened before. {_TIMES}")

    def which(self) -> EventFilter:
        """The request in the log's terms."""
        return EventFilter(self.person, self.kind, self.device, self.since, self.until)


class EventAnswer(BaseModel):
    """Something that happened."""

    number: int
    at: str
    kind: EventKind
    person: str | None = Field(description="Id; null for somebody unknown.")
    name: str | None
    distance: float | None
    api_key: str | None = Field(description="Id of the key; null for an anonymous request.")
    device: int | None
    latitude: float | None
    longitude: float | None
    crop: bool = Field(description="Whether the aligned face was kept.")

    @classmethod
    def of(cls, event: Event) -> EventAnswer:
        """The answer for an event."""
        return cls(
            number=event.number,
            at=schemas.time_of(event.at),
            kind=event.kind,
            person=event.person,
            name=event.name,
            distance=None if event.distance is None else round(event.distance, 4),
            api_key=event.occasion.api_key,
            device=event.occasion.device,
            latitude=event.occasion.latitude,
            longitude=event.occasion.longitude,
            crop=event.has_crop,
        )


class EventsAnswer(BaseModel):
    """A part of the events, the latest first."""

    events: list[EventAnswer]
    next: int | None = Field(description="`before` of the next page; null on the last.")


_EVENTS = TypeAdapter(EventsRequest)


async def list_events(request: web.Request) -> web.Response:
    """One page of events."""
    wanted = validate(_EVENTS, read_query(request))
    # One more than asked for tells whether there is a next page.
    found = await request.app[PEOPLE].events(request[CALLER].gallery, wanted.limit + 1, wanted.before, wanted.which())
    events = list(_fitting(found[: wanted.limit]))
    following = events[-1].number if len(found) > len(events) else None
    return await large_json_response(
        lambda: {"events": [dump(EventAnswer.of(event)) for event in events], "next": following}
    )


def _fitting(events: Sequence[Event]) -> Iterator[Event]:
    """The first events that fit into an answer; ids and names may be long."""
    size = 0
    for event in events:
        size += _EVENT_BYTES + len((event.person or "").encode()) + len((event.name or "").encode())
        if size > PAGE_BYTES:
            return
        yield event


async def get_crop(request: web.Request) -> web.Response:
    """The aligned face that was kept with an event."""
    number = schemas.parse_number(request.match_info["number"])
    return web.Response(
        body=await request.app[PEOPLE].event_crop(request[CALLER].gallery, number), content_type="image/jpeg"
    )


_operation = partial(Operation, tag="Events", in_collection=True)

OPERATIONS = (
    _operation(
        "GET",
        "/events",
        "What happened, the latest first",
        list_events,
        right=Right.ADMIN,
        answer=TypeAdapter(EventsAnswer),
        query=EventsRequest,
        errors=(400, 404),
    ),
    _operation(
        "GET",
        "/events/{number}/crop",
        "The aligned face that was kept with an event, as JPEG",
        get_crop,
        right=Right.ADMIN,
        errors=(400, 404),
    ),
)
