"""The messages of a live session: what a client sends, and what it gets for each frame."""

from __future__ import annotations

import struct
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from face_detection.api.schemas import ErrorDetail, MinDistance
from face_detection.api.validation import OwnRequest, Real, Whole
from face_detection.live.session import LiveFace
from face_detection.live.visits import LEAVE_AFTER
from shared.errors import InvalidRequest
from shared.formats import LONGEST_SIGNATURE, format_of

MAX_TEXT = 4096
"""Characters of a text message."""

_NUMBER = struct.Struct(">I")
_PLAIN = 0x80
"""First byte from which on a message has no number, whatever it is: numbers are below 2³¹."""


class SessionSettings(OwnRequest):
    """A text message: settings from now on. What is left out stays, null takes a setting back."""

    min_distance: MinDistance = None
    device: Annotated[Whole, Field(ge=0, lt=2**63)] | None = Field(
        default=None, description="Code of the company's capture device, for the event log."
    )
    latitude: Annotated[Real, Field(ge=-90, le=90)] | None = Field(
        default=None, description="Degrees, for the event log."
    )
    longitude: Annotated[Real, Field(ge=-180, le=180)] | None = Field(
        default=None, description="Degrees, for the event log."
    )
    leave_after: Annotated[Real, Field(gt=0, le=86400)] | None = Field(
        default=None,
        description="Seconds unseen after which a visit is over; whoever is seen again earlier goes on with it. "
        f"null: {LEAVE_AFTER:g}.",
    )
    fps: Annotated[Real, Field(gt=0, le=1000)] | None = Field(
        default=None,
        description="For a recording, before its first frame: how many of the frames' numbers make a second. Otherwise "
        "the time of a frame is that at which it comes.",
    )


class FirstMessage(SessionSettings):
    """The first text message, which may bring the API key."""

    api_key: Annotated[str, Field(max_length=256)] | None = None


class LiveFaceAnswer(BaseModel):
    """A face of a frame."""

    track: int = Field(description="Number that the face keeps from frame to frame of this session.")
    box: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels of the upright frame.")
    id: str | None = Field(description="Who it is; null for somebody unknown.")
    name: str | None
    metadata: Any
    distance: float | None = Field(description="Null before the first embedding and in an empty gallery.")
    trust: float = Field(description="0 to 100.")
    firm: bool = Field(description="Whether several frames agree on who it is.")
    visit: int | None = Field(
        description="Number of the visit of this person or stranger in this session, which goes on when they step out "
        "of view for less than `leave_after` seconds; null before it is sure who it is."
    )
    embedded: bool = Field(description="Whether the face was compared in this frame, or only followed.")

    @classmethod
    def of(cls, face: LiveFace) -> LiveFaceAnswer:
        """The answer for a face."""
        box, person = face.box, face.person
        return cls(
            track=face.track,
            box=(box.x, box.y, box.width, box.height),
            id=person.id if person else None,
            name=person.name if person else None,
            metadata=person.metadata if person else None,
            distance=None if face.distance is None else round(face.distance, 4),
            trust=round(face.trust, 1),
            firm=face.firm,
            visit=face.visit,
            embedded=face.embedded,
        )


class FrameAnswer(BaseModel):
    """What the server sends for a frame."""

    frame: int = Field(description="Its number.")
    width: int
    height: int
    milliseconds: float = Field(description="Time that the frame took, without waiting for its turn.")
    skipped: int = Field(description="Frames before this one that were dropped since the last answer.")
    faces: list[LiveFaceAnswer]


class ErrorMessage(BaseModel):
    """What the server sends for a frame, or for settings, that it cannot use; the session goes on."""

    error: ErrorDetail
    frame: int | None = Field(description="Null for a text message.")
    skipped: int = 0


LIVE_ANSWER: TypeAdapter[FrameAnswer | ErrorMessage] = TypeAdapter(FrameAnswer | ErrorMessage)
FIRST: TypeAdapter[FirstMessage] = TypeAdapter(FirstMessage)
SETTINGS_MESSAGE: TypeAdapter[SessionSettings] = TypeAdapter(SessionSettings)


def split_frame(message: bytes, expected: int) -> tuple[int, bytes]:
    """The number and the picture of a binary message.

    Args:
        message: a picture, perhaps after its number in 4 bytes, big-endian.
        expected: number of a picture without one.

    Raises:
        InvalidRequest: there is no picture.
    """
    numbered = format_of(message[_NUMBER.size : _NUMBER.size + LONGEST_SIGNATURE]) is not None
    if message and not numbered and (message[0] >= _PLAIN or format_of(message) is not None):
        return expected, message
    if len(message) <= _NUMBER.size:
        raise InvalidRequest("A frame is a JPEG, perhaps after a number in four bytes.")
    (number,) = _NUMBER.unpack_from(message)
    return number, message[_NUMBER.size :]
