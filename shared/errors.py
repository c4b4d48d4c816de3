"""The error tree of both services.

Every error carries a stable ``code`` for programs and a message for people. Nothing here knows about
HTTP: ``wire`` maps the tree to statuses, in one table for both services.

::

    ServiceError
    ├── InvalidRequest             invalid_request
    │   ├── UnsupportedRate        unsupported_rate          a false match rate that the curve does not reach
    │   └── TooFewPhotos           too_few_photos            too few to calibrate a threshold
    ├── ImageError
    │   ├── ImageTooLarge          image_too_large           too many encoded bytes
    │   ├── TooManyPixels          too_many_pixels           header announces too many pixels
    │   ├── UnsupportedImage       unsupported_image_type    not one of the accepted formats
    │   ├── UndecodableImage       undecodable_image         damaged, truncated, or not base64
    │   │   └── ImageByReference   image_by_reference        only says where the picture is
    │   └── FetchFailed            fetch_failed              the address of the picture gives none
    ├── Unauthorized               unauthorized              no API key, or not one that is valid
    ├── Forbidden                  forbidden                 not allowed to this caller
    │   ├── HostNotAllowed         host_not_allowed          the name is not one of the service's
    │   └── QuotaExceeded          quota_exceeded            more samples than the API key allows
    ├── FaceNotFound               no_face
    ├── AmbiguousFace              ambiguous_face            several faces may be meant; has their boxes
    ├── LowQuality                 low_quality               a face that would make no good sample
    ├── NotFound                   not_found
    ├── CursorExpired              cursor_expired            what has changed since is no longer known in full
    ├── Conflict                   conflict
    │   ├── SpaceMismatch          embedding_space_mismatch  embeddings that must not be compared
    │   ├── NoPhotoOfModel         no_photo_of_model         a person who has photos of other models only
    │   ├── NotCalibrated          not_calibrated            a false match rate, of a model without a curve
    │   ├── PhotoConflict          photo_conflict            a photo that contradicts those that are there
    │   ├── KeyReused              idempotency_key_reused    another request had the same Idempotency-Key
    │   └── AnswerDeleted          answer_deleted            the request was done, and its answer is gone
    ├── BodyTooLarge               body_too_large
    ├── RequestTooSlow             request_too_slow          the body did not arrive in time
    ├── Overloaded                 overloaded                a bounded queue is full; has retry_after
    │   └── RateLimited            rate_limited              more requests than the API key allows
    ├── NotReady                   not_ready                 still loading; has retry_after
    ├── ExtractionError
    │   ├── ExtractionFailed       extraction_failed         the extraction service answered with an error
    │   └── ExtractionUnavailable  extraction_unavailable    not reachable or not ready; has retry_after
    ├── LivenessUnavailable        liveness_unavailable      the installation has no liveness check
    ├── DeadlinePassed             deadline_passed
    ├── StorageError               storage_failed            the database refused or failed
    │   ├── StorageRefused         storage_refused           a value is against the rules of the database
    │   └── StorageUnavailable     storage_unavailable       not reachable, or busy; has retry_after
    │       └── SearchUnavailable  search_unavailable        the index elsewhere is away, or far behind
    └── StartupError               (the process refuses to start; never sent to a client)
        ├── SettingsError          invalid_settings
        ├── WeightsError           weights_unavailable
        └── EngineUnavailable      engine_unavailable
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from typing_extensions import override


class ServiceError(Exception):
    """Base of every error that either service raises on purpose.

    Attributes:
        code: stable, machine-readable name.
        text: one line for people; free of paths, SQL and personal data.
        advice: what whoever runs the service can do about it, or empty; for logs and the command line.
        retry_after: seconds after which a retry is worth it, or None.
        input: which of several inputs it is about, None where there is but one.
    """

    code = "internal"
    retry_after: int | None = None
    input: str | None = None

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice

    @property
    def message(self) -> str:
        """The text, after the input that it is about."""
        return f"{self.input}: {self.text}" if self.input else self.text

    @property
    def explained(self) -> str:
        """The message and the advice."""
        return f"{self.message} {self.advice}" if self.advice else self.message

    @property
    def details(self) -> dict[str, Any]:
        """What else programs are told, as members of JSON beside code and message."""
        return {"input": self.input} if self.input else {}


@contextmanager
def about(input: str) -> Iterator[None]:
    """Errors that are raised within are about one of several inputs."""
    try:
        yield
    except ServiceError as error:
        error.input = input
        raise


class InvalidRequest(ServiceError):
    """The request is malformed; nothing was changed."""

    code = "invalid_request"


class UnsupportedRate(InvalidRequest):
    """The photos on which the model was measured tell nothing of a false match rate this small."""

    code = "unsupported_rate"


class TooFewPhotos(InvalidRequest):
    """Too few people or photos to calibrate a threshold."""

    code = "too_few_photos"


class ImageError(ServiceError):
    """The picture cannot be used."""

    code = "image_error"


class ImageTooLarge(ImageError):
    """The encoded picture has more bytes than allowed."""

    code = "image_too_large"


class TooManyPixels(ImageError):
    """The picture's header announces more pixels than allowed."""

    code = "too_many_pixels"


class UnsupportedImage(ImageError):
    """The bytes are not in an accepted image format."""

    code = "unsupported_image_type"


class UndecodableImage(ImageError):
    """The bytes look like a picture but cannot be decoded, or are not base64."""

    code = "undecodable_image"


class ImageByReference(UndecodableImage):
    """The address or the name of a picture where the picture itself should be."""

    code = "image_by_reference"


class FetchFailed(ImageError):
    """The address that the client gave does not give a picture."""

    code = "fetch_failed"


class Unauthorized(ServiceError):
    """The request needs an API key, or its key is unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """The caller is known well enough to be refused."""

    code = "forbidden"


class HostNotAllowed(Forbidden):
    """The request is for a name that the service does not answer to."""

    code = "host_not_allowed"


class QuotaExceeded(Forbidden):
    """The gallery would hold more samples than the API key allows; nothing was stored."""

    code = "quota_exceeded"


class FaceNotFound(ServiceError):
    """There is no face where at least one is needed."""

    code = "no_face"


class AmbiguousFace(ServiceError):
    """Several faces may be meant alike where one is needed.

    Args:
        text: see ``ServiceError``.
        boxes: of these faces, each ``x, y, width, height`` in pixels of the upright picture.
    """

    code = "ambiguous_face"

    def __init__(self, text: str, boxes: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.boxes = boxes

    @property
    @override
    def details(self) -> dict[str, Any]:
        return super().details | {"boxes": list(self.boxes)}


class LowQuality(ServiceError):
    """The face is too small, blurred, noisy or otherwise spoilt to serve as a sample; the text says in what.

    Args:
        text: see ``ServiceError``.
        box: of the face, ``x, y, width, height`` in pixels of the upright picture.
    """

    code = "low_quality"

    def __init__(self, text: str, box: str | None = None) -> None:
        super().__init__(text)
        self.box = box

    @property
    @override
    def details(self) -> dict[str, Any]:
        return super().details | ({"bbox": self.box} if self.box else {})


class NotFound(ServiceError):
    """What the request names does not exist."""

    code = "not_found"


class CursorExpired(ServiceError):
    """What has changed since some point is no longer known in full: whoever follows the changes starts over."""

    code = "cursor_expired"


class Conflict(ServiceError):
    """The request contradicts the present state."""

    code = "conflict"


class SpaceMismatch(Conflict):
    """Embeddings of different models, revisions or alignments were about to be compared."""

    code = "embedding_space_mismatch"


class NoPhotoOfModel(Conflict):
    """A person is there, but has no photo of the model in use."""

    code = "no_photo_of_model"


class NotCalibrated(Conflict):
    """A false match rate is asked for, and no curve says which distance has it."""

    code = "not_calibrated"


class PhotoConflict(Conflict):
    """A photo looks like somebody else, or unlike its own person, and such are to be refused; it was not stored.

    Args:
        text: see ``ServiceError``.
        conflict: what it contradicts, as members of JSON; None where it is not told.
    """

    code = "photo_conflict"

    def __init__(self, text: str, conflict: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.conflict = conflict

    @property
    @override
    def details(self) -> dict[str, Any]:
        return super().details | ({"conflict": dict(self.conflict)} if self.conflict else {})


class KeyReused(Conflict):
    """Another request had the same Idempotency-Key; nothing was changed."""

    code = "idempotency_key_reused"


class AnswerDeleted(Conflict):
    """The request was done before, and what its answer told of was deleted since; nothing was changed."""

    code = "answer_deleted"


class BodyTooLarge(ServiceError):
    """The request body has more bytes than allowed."""

    code = "body_too_large"


class RequestTooSlow(ServiceError):
    """The request body did not arrive in time; nothing was changed."""

    code = "request_too_slow"


class Overloaded(ServiceError):
    """A bounded queue is full; the request was not accepted."""

    code = "overloaded"
    retry_after = 1


class RateLimited(Overloaded):
    """The API key has had its requests of this minute.

    Args:
        text: see ``ServiceError``.
        retry_after: seconds until the next request is allowed, at least 1.
    """

    code = "rate_limited"

    def __init__(self, text: str, retry_after: int = 1) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class NotReady(ServiceError):
    """The service is still starting."""

    code = "not_ready"
    retry_after = 2


class ExtractionError(ServiceError):
    """The extraction service could not give embeddings."""

    code = "extraction_error"


class ExtractionFailed(ExtractionError):
    """The extraction service answered with an error, or with something that is not an answer."""

    code = "extraction_failed"


class ExtractionUnavailable(ExtractionError):
    """The extraction service cannot be reached or is not ready."""

    code = "extraction_unavailable"
    retry_after = 2


class LivenessUnavailable(ServiceError):
    """A liveness check is asked for, or required, where the extraction service has none."""

    code = "liveness_unavailable"

    def __init__(
        self,
        text: str = "There is no liveness check: start the extraction service with LIVENESS=available, see "
        "docs/liveness.md.",
    ) -> None:
        super().__init__(text)


class DeadlinePassed(ServiceError):
    """The time allowed for the request has passed."""

    code = "deadline_passed"


class StorageError(ServiceError):
    """The database refused or failed; the change was rolled back."""

    code = "storage_failed"


class StorageRefused(StorageError):
    """The database works, and has refused a value; the change was rolled back."""

    code = "storage_refused"


class StorageUnavailable(StorageError):
    """The database cannot be reached, is starting or shutting down, is busy, or has no free connection."""

    code = "storage_unavailable"
    retry_after = 2


class SearchUnavailable(StorageUnavailable):
    """The index of embeddings outside of the process is away, or has yet to catch up with the database."""

    code = "search_unavailable"


class StartupError(ServiceError):
    """The process cannot start. The message may name files and settings: only the operator sees it."""

    code = "startup_failed"


class SettingsError(StartupError):
    """A setting is missing, malformed or contradicts another."""

    code = "invalid_settings"


class WeightsError(StartupError):
    """A weight file is missing and cannot be fetched, or is damaged."""

    code = "weights_unavailable"


class EngineUnavailable(StartupError):
    """The runtime or the device that was asked for is not there."""

    code = "engine_unavailable"
