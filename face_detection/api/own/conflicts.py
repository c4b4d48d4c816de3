"""Stored photos that contradict others."""

from __future__ import annotations

from typing import Annotated, Self

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from face_detection.access import demand
from face_detection.api.http.bodies import read_query, validate
from face_detection.api.operation import CALLER, RECOGNITION, Operation, dump, large_json_response
from face_detection.api.validation import OwnRequest, Whole
from face_detection.gallery.directory import Right
from face_detection.recognition.conflicts import Contradicted, Kind
from face_detection.recognition.examination import Examined

_MOST_EXAMINED = 256


class ConflictsRequest(OwnRequest):
    """Which part of the photos."""

    limit: Annotated[Whole, Field(ge=1, le=_MOST_EXAMINED)] = Field(
        default=100, description="Most photos that are examined for the page."
    )
    after: Annotated[Whole, Field(ge=-1, lt=2**63)] = Field(default=-1, description="`next` of the page before.")


class PersonInConflict(BaseModel):
    """Whose photo contradicts others."""

    id: str
    name: str


class OtherInConflict(PersonInConflict):
    """The photo that it contradicts most: of somebody else who is nearest, or the nearest of the same person."""

    photo: int = Field(description="Its number.")


class ConflictAnswer(BaseModel):
    """A photo that contradicts others."""

    person: PersonInConflict
    photo: int = Field(description="Its number.")
    kind: Kind = Field(
        description="`nearer_to_other`: somebody else's photo is a match, and none of its own person is as near; "
        "`unlike_own`: far from all other photos of its person."
    )
    other: OtherInConflict
    distance: float = Field(description="To the other.")
    threshold: float = Field(description="Below which a distance is a match.")

    @classmethod
    def of(cls, one: Contradicted) -> Self:
        """The answer for a photo."""
        person, near = one.sample.person, one.conflict.near
        assert near is not None and near.photo is not None
        return cls(
            person=PersonInConflict(id=person.id, name=person.name),
            photo=one.sample.number,
            kind=one.conflict.kind,
            other=OtherInConflict(id=near.id, name=near.name, photo=near.photo),
            distance=round(near.distance, 4),
            threshold=one.conflict.threshold,
        )


class ConflictsAnswer(BaseModel):
    """Those of a part of the photos that contradict others, ordered by number."""

    conflicts: list[ConflictAnswer]
    examined: int = Field(description="Photos that were; those of other models are not.")
    next: int | None = Field(description="`after` of the next page; null on the last.")

    @classmethod
    def of(cls, found: Examined) -> Self:
        """The answer for a part of the photos."""
        return cls(
            conflicts=[ConflictAnswer.of(one) for one in found.contradicted], examined=found.samples, next=found.next
        )


_PAGE = TypeAdapter(ConflictsRequest)


async def list_conflicts(request: web.Request) -> web.Response:
    """One page of photos that contradict others."""
    # Whoever adds a photo of a passer-by would see here who that is.
    demand(request[CALLER], Right.RECOGNISE)
    wanted = validate(_PAGE, read_query(request))
    found = await request.app[RECOGNITION].examine(request[CALLER].gallery, wanted.after, wanted.limit)
    return await large_json_response(lambda: dump(ConflictsAnswer.of(found)))


OPERATIONS = (
    Operation(
        "GET",
        "/conflicts",
        "Photos that are nearer to somebody else or unlike their person; needs the right recognise as well",
        list_conflicts,
        tag="People",
        in_collection=True,
        right=Right.ENROL,
        answer=TypeAdapter(ConflictsAnswer),
        query=ConflictsRequest,
        errors=(400, 404, 502, 503, 504),
    ),
)
