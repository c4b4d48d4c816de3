"""The error tree of both services.

Every error carries a stable ``code`` for programs and a message for people. Nothing here knows about
HTTP: each service maps the tree to statuses in one table of its own.

::

    ServiceError
    ├── InvalidRequest             invalid_request
    ├── ImageError
    │   ├── ImageTooLarge          image_too_large           too many encoded bytes
    │   ├── TooManyPixels          too_many_pixels           header announces too many pixels
    │   ├── UnsupportedImage       unsupported_image_type    not one of the accepted formats
    │   ├── UndecodableImage       undecodable_image         damaged, truncated, or not base64
    │   └── FetchFailed            fetch_failed              the address of the picture gives none
    ├── Unauthorized               unauthorized              no API key, or not one that is valid
    ├── Forbidden                  forbidden                 not allowed to this caller
    │   └── QuotaExceeded          quota_exceeded            more samples than the API key allows
    ├── FaceNotFound               no_face
    ├── NotFound                   not_found
    ├── Conflict                   conflict
    │   └── SpaceMismatch          embedding_space_mismatch  embeddings that must not be compared
    ├── BodyTooLarge               body_too_large
    ├── RequestTooSlow             request_too_slow          the body did not arrive in time
    ├── Overloaded                 overloaded                a bounded queue is full; has retry_after
    │   └── RateLimited            rate_limited              more requests than the API key allows
    ├── NotReady                   not_ready                 still loading; has retry_after
    ├── ExtractionError
    │   ├── ExtractionFailed       extraction_failed         the extraction service answered with an error
    │   └── ExtractionUnavailable  extraction_unavailable    not reachable or not ready; has retry_after
    ├── DeadlinePassed             deadline_passed
    ├── StorageError               storage_failed            the database refused or failed
    │   └── StorageUnavailable     storage_unavailable       not reachable, or busy; has retry_after
    │       └── SearchUnavailable  search_unavailable        the index elsewhere is away, or far behind
    └── StartupError               (the process refuses to start; never sent to a client)
        ├── SettingsError          invalid_settings
        ├── WeightsError           weights_unavailable
        └── EngineUnavailable      engine_unavailable
"""

from __future__ import annotations


class ServiceError(Exception):
    """Base of every error that either service raises on purpose.

    Attributes:
        code: stable, machine-readable name.
        message: one line for people; free of paths, SQL and personal data.
        retry_after: seconds after which a retry is worth it, or None.
    """

    code = "internal"
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(ServiceError):
    """The request is malformed; nothing was changed."""

    code = "invalid_request"


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


class FetchFailed(ImageError):
    """The address that the client gave does not give a picture."""

    code = "fetch_failed"


class Unauthorized(ServiceError):
    """The request needs an API key, or its key is unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """The caller is known well enough to be refused."""

    code = "forbidden"


class QuotaExceeded(Forbidden):
    """The gallery would hold more samples than the API key allows; nothing was stored."""

    code = "quota_exceeded"


class FaceNotFound(ServiceError):
    """There is no face where at least one is needed."""

    code = "no_face"


class NotFound(ServiceError):
    """What the request names does not exist."""

    code = "not_found"


class Conflict(ServiceError):
    """The request contradicts the present state."""

    code = "conflict"


class SpaceMismatch(Conflict):
    """Embeddings of different models, revisions or alignments were about to be compared."""

    code = "embedding_space_mismatch"


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
        message: see ``ServiceError``.
        retry_after: seconds until the next request is allowed, at least 1.
    """

    code = "rate_limited"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
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


class DeadlinePassed(ServiceError):
    """The time allowed for the request has passed."""

    code = "deadline_passed"


class StorageError(ServiceError):
    """The database refused or failed; the change was rolled back."""

    code = "storage_failed"


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
