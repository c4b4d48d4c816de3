"""What the commands ask of an installation, whether it answers over HTTP or works in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from face_detection.gallery.events import Event, EventFilter
from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Person, Vector
from face_detection.naming import normal_id, normal_name
from face_detection.recognition.choice import remark
from shared.calibration import Curve, Limit
from shared.errors import InvalidRequest, NotFound, ServiceError
from shared.geometry import Angle, Box
from shared.models import Effort, Metric, OnConflict

FAULTS_OF_PICTURES = frozenset(
    {
        "body_too_large",
        "deadline_passed",
        "image_by_reference",
        "image_too_large",
        "invalid_request",
        "no_face",
        "too_many_pixels",
        "undecodable_image",
        "unsupported_image_type",
    }
)
"""Codes of errors after which the next picture may fare better."""

DISTANCE_DIGITS = 4
"""To which distances are rounded, as the service's answers have them."""


@dataclass(frozen=True)
class How:
    """How faces are found and compared.

    Attributes:
        limit: threshold; the company's when None.
        liveness: whether faces are checked for being real; where the company requires it, they always are.
        detection: how hard to look for faces; as the installation is set when None.
    """

    limit: Limit | None = None
    liveness: bool = False
    detection: Effort | None = None


@dataclass(frozen=True)
class Look:
    """How the face of a photo to enrol is found, and judged.

    Attributes:
        face: which one is meant, see ``choice.parse_choice``; None for the one that is clearly meant.
        detection: as for ``How``.
        on_conflict: what becomes of one that contradicts others; as the installation is set when None.
    """

    face: str | None = None
    detection: Effort | None = None
    on_conflict: OnConflict | None = None


@dataclass(frozen=True)
class Photo:
    """A photo to enrol somebody with; ``picture`` is the encoded file."""

    id: str
    name: str
    picture: bytes
    look: Look = Look()


@dataclass(frozen=True)
class Enrolled:
    """A photo was stored; ``warnings`` are remarks on it."""

    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, faces: int, box: str, conflicts: Iterable[str]) -> Self:
        """A photo with so many faces was stored, of which that in the box was taken, though others contradict it."""
        return cls((*([remark(faces, box)] if faces > 1 else ()), *conflicts))


Faces = tuple[str | None, str | None]

Outcome = Enrolled | ServiceError
"""What became of a photo; an error as a value, so that one bad picture does not end its siblings."""


@dataclass(frozen=True)
class Seen:
    """A face of a picture; ``id`` and ``name`` are None for an unknown one.

    ``distance`` is that to the nearest sample, None in an empty gallery. For ``threshold``, ``false_match_rate``,
    ``margin`` and ``ambiguous`` see ``recognition.identification.Recognised``. ``reason`` says why nobody is named
    however near somebody is, ``quality`` how well the face can be recognised, 0 to 1, ``liveness`` is the score of
    the liveness check, None where it was not asked, and ``angle`` by how many degrees clockwise the head is turned.
    """

    box: Box
    id: str | None
    name: str | None
    distance: float | None
    threshold: float
    false_match_rate: float | None
    margin: float | None
    ambiguous: bool
    reason: str | None = None
    quality: float | None = None
    liveness: float | None = None
    angle: Angle = 0


Recognise = Callable[[bytes], Sequence[Seen]]
"""Names the faces of an encoded picture, in reading order: ``Service.recognise`` with all that was said of how."""


@dataclass(frozen=True)
class Comparison:
    """Whether the faces of two pictures are of one person: ``distance`` < ``threshold``, unless there is a ``reason``.

    ``false_match_rate`` says how often strangers come nearer than ``distance``; None where that is not known.
    ``liveness`` are the scores of both in the liveness check, None where it was not asked, and ``qualities`` how well
    each can be recognised, 0 to 1.
    """

    same: bool
    distance: float
    threshold: float
    false_match_rate: float | None
    boxes: tuple[Box, Box]
    qualities: tuple[float, float]
    reason: str | None = None
    liveness: tuple[float, float] | None = None


@dataclass(frozen=True)
class Encoding:
    """The embedding of a face, (dimensions,) float32, its space, and how the installation compares it."""

    space: str
    metric: Metric
    vector: Vector


@dataclass(frozen=True)
class StoredPhoto:
    """A sample of a person."""

    number: int
    space: str
    updated_at: datetime


@dataclass(frozen=True)
class Record:
    """A person with all samples that could be had.

    Attributes:
        id, name, metadata, action, created_at, updated_at: see ``gallery.people.NewSample``.
        samples: embedding space and (dimensions,) float32 vector of each.
        missing: samples that the installation does not give out.
    """

    id: str
    name: str
    metadata: Any
    action: str | None
    samples: Sequence[tuple[str, Vector]]
    missing: int = 0
    created_at: str | None = None
    updated_at: str | None = None

    @classmethod
    def of(cls, person: Person, samples: Sequence[tuple[str, Vector]], missing: int = 0) -> Self:
        """What is known of a person, with samples."""
        known = person.id, person.name, person.metadata, person.action
        return cls(*known, samples, missing, person.created_at, person.updated_at)


class Service(Protocol):
    """One company's gallery. Safe to use from several threads.

    Every method raises ServiceError with a message for people when it is refused or fails, with nothing changed.
    """

    def prepare(self) -> None:
        """Wait until pictures can be worked on. To be called first, from the thread that closes the service."""

    def enrol(self, photos: Sequence[Photo]) -> Sequence[Outcome]:
        """Enrol people with one photo each, in place of all that they had; ids must differ.

        Returns:
            What became of each, in order. What is stored is stored together.
        """

    def add(self, id: str, name: str, pictures: Sequence[bytes], look: Look = Look()) -> Sequence[Outcome]:
        """Add photos to a person; whoever is not known is created with the name.

        Args:
            id, name: of the person.
            pictures: encoded files.
            look: how the face of each is found.

        Returns:
            What became of each, in order. What is stored is stored together.
        """

    def recognise(self, picture: bytes, how: How = How()) -> Sequence[Seen]:
        """Name the faces of a picture, the encoded file, in reading order."""

    def verify(self, first: bytes, second: bytes, how: How = How(), faces: Faces = (None, None)) -> Comparison:
        """Compare a face of one picture with one of another; with ``how.liveness`` both must be real.

        ``faces`` says which ones, see ``choice.parse_choice``; None for the one that is most likely meant. An error
        about one of the pictures has ``image1`` or ``image2`` as its ``input``.
        """

    def encode(self, picture: bytes, detection: Effort | None = None) -> Encoding:
        """The embedding of the largest face of a picture; ``detection`` as for ``How``. Nothing is stored."""

    def calibrate(self, space: str, metric: Metric, curve: Curve) -> None:
        """Let a curve count for the company, in place of the model's; it must be of the model in use."""

    def reset_calibration(self) -> None:
        """Let the model's curve count again."""

    def people(self, text: str | None, metadata: Sequence[Condition] = ()) -> Iterator[Person]:
        """People ordered by id; only those with ``text`` in id or name, if there is one, who meet all conditions."""

    def events(self, which: EventFilter, limit: int) -> Iterator[Event]:
        """What happened, the latest first; asked for in parts of at most ``limit``."""

    def person(self, id: str) -> Person:
        """One person."""

    def rename(self, id: str, name: str) -> None:
        """Give a person another name."""

    def delete(self, id: str) -> None:
        """Delete a person with all photos and events."""

    def clear(self) -> None:
        """Delete everybody."""

    def photos(self, id: str) -> Sequence[StoredPhoto]:
        """The samples of a person, ordered by number."""

    def delete_photo(self, id: str, number: int) -> None:
        """Delete one sample, and with the last one the person."""

    def export(self) -> Iterator[Record]:
        """Everybody, ordered by id."""

    def close(self) -> None:
        """Finish what is under way and let go of everything."""


def is_known(service: Service, id: str) -> bool:
    """Whether somebody has this id; nobody has one that is refused."""
    try:
        service.person(check_id(id))
    except ServiceError as error:
        if error.code not in (NotFound.code, InvalidRequest.code):
            raise
        return False
    return True


def check_id(id: str) -> str:
    """The id as it is stored, if a person may have it.

    Raises:
        InvalidRequest: see ``naming.normal_id``.
    """
    return _checked("id", normal_id, id)


def check_name(name: str) -> str:
    """The name as it is stored, if a person may have it.

    Raises:
        InvalidRequest: see ``naming.normal_name``.
    """
    return _checked("name", normal_name, name)


def _checked(what: str, check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"The {what}: {error.message}.") from None
