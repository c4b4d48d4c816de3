"""The event log: who was enrolled and recognised, when, where, by which key and device."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api import schemas
from face_detection.api.bodies import validate
from face_detection.api.operations import CALLER, PEOPLE, Operation, dump, json_response
from face_detection.api.people_schemas import time_of
from face_detection.gallery.directory import Right
from face_detection.gallery.events import Event, EventKind

TAG = "Events"


class EventsRequest(BaseModel):
    """Which events."""

    limit: int = Field(default=100, ge=1, le=1000, description="Most entries on the page.")
    before: int | None = Field(default=None, ge=1, le=2**63 - 1, description="`next` of the page before.")
    person: Annotated[schemas.Text, Field(max_length=256)] | None = Field(default=None, description="Id.")
    kind: EventKind | None = None


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
            at=time_of(event.at),
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
    wanted = validate(_EVENTS, dict(request.query))
    # One more than asked for tells whether there is a next page.
    found = await request.app[PEOPLE].events(
        request[CALLER].tenant, wanted.limit + 1, wanted.before, wanted.person, wanted.kind
    )
    events = found[: wanted.limit]
    answer = EventsAnswer(
        events=[EventAnswer.of(event) for event in events],
        next=events[-1].number if len(found) > wanted.limit else None,
    )
    return json_response(dump(answer))


async def get_crop(request: web.Request) -> web.Response:
    """The aligned face that was kept with an event."""
    number = schemas.parse_number(request.match_info["number"])
    return web.Response(
        body=await request.app[PEOPLE].event_crop(request[CALLER].tenant, number), content_type="image/jpeg"
    )


OPERATIONS = (
    Operation(
        "GET",
        "/events",
        "What happened, the latest first",
        list_events,
        TAG,
        right=Right.ADMIN,
        answer=TypeAdapter(EventsAnswer),
        query=EventsRequest,
        errors=(400,),
    ),
    Operation(
        "GET",
        "/events/{number}/crop",
        "The aligned face that was kept with an event, as JPEG",
        get_crop,
        TAG,
        right=Right.ADMIN,
        errors=(400, 404),
    ),
)
