"""A running service over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import numpy as np
import requests
from typing_extensions import override

from face_detection.cli.service.protocol import (
    Comparison,
    Encoding,
    Enrolled,
    Faces,
    How,
    Look,
    Outcome,
    Photo,
    Record,
    Seen,
    Service,
    StoredPhoto,
    check_id,
)
from face_detection.gallery.events import Event, EventFilter, EventKind, Occasion
from face_detection.gallery.metadata import Condition
from face_detection.gallery.people import Person, Vector
from shared.calibration import Curve, named_threshold
from shared.errors import FaceNotFound, InvalidRequest, ServiceError, SettingsError
from shared.geometry import Box
from shared.models import Effort, Metric
from shared.times import moment_of, time_text

_TIMEOUTS = (10, 960)
"""Seconds for the connection, and for an answer to begin."""

_PATIENCE, _LONGEST_WAIT = 600.0, 60
"""Seconds for which a busy service is asked again, and most seconds between two of these requests."""

_IDEMPOTENCY_KEY = "Idempotency-Key"
_MOST_BROKEN = 3
"""Connections in the middle of a request that may be sent again."""

_PAGE = 1000
_TOO_LARGE = "body_too_large"

_CURSOR_EXPIRED = "211"
"""What the data set says of a cursor with which one cannot go on."""

_MOST_STARTS = 3

T = TypeVar("T")

_Files = list[tuple[str, tuple[str | None, str | bytes]]]


class Refused(ServiceError):
    """The service refused, with a code of its own."""

    def __init__(self, code: str, message: str, input: str | None = None) -> None:
        super().__init__(message.removeprefix(f"{input}: "))
        self.code, self.input = code, input


class Unreachable(ServiceError):
    """Nothing answers, or something else than this service."""

    code = "unreachable"


class RemoteService(Service):
    """A running service over HTTP.

    Args:
        url: base address.
        key: API key, if the service needs one.

    Raises:
        SettingsError: the address or the key cannot be one.
    """

    def __init__(self, url: str, key: str | None) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"{url} is not an address like http://127.0.0.1:6337.")
        self.url = url.rstrip("/")
        self._session = requests.Session()
        if key:
            if not (key.isascii() and key.isprintable()):
                raise SettingsError("FACE_API_KEY is not an API key.")
            # Not as Authorization, which may be a password for a proxy in between.
            self._session.headers["X-API-Key"] = key

    @override
    def prepare(self) -> None:
        self.ready()

    @override
    def enrol(self, photos: Sequence[Photo]) -> Sequence[Outcome]:
        form: _Files = []
        for photo in photos:
            form += [("id", (None, photo.id)), ("name", (None, photo.name)), ("image", ("photo", photo.picture))]
            form += _looking(photo.look)
        try:
            answer = self._json("POST", "/update-samples", files=form, headers=_once())
        except Refused as error:
            if error.code != _TOO_LARGE:
                raise
            # Perhaps because of one picture, which is to fail alone.
            return [error] if len(photos) == 1 else [one for photo in photos for one in self.enrol([photo])]
        with self._understood():
            errors, warnings = answer.get("errors", {}), answer.get("warnings", {})
            return [
                Refused(errors[photo.id]["code"], errors[photo.id]["message"])
                if photo.id in errors
                else Enrolled(tuple(warnings.get(photo.id, ())))
                for photo in photos
            ]

    @override
    def add(self, id: str, name: str, pictures: Sequence[bytes], look: Look = Look()) -> Sequence[Outcome]:
        form: _Files = [("image", ("photo", picture)) for picture in pictures]
        form += [*_looking(look), *_field("name", name or None)]
        try:
            answer = self._json("POST", f"{_person(id)}/photos", files=form, headers=_once())
        except Refused as error:
            if error.code != _TOO_LARGE:
                raise
            if len(pictures) == 1:
                return [error]
            return [one for picture in pictures for one in self.add(id, name, [picture], look)]
        with self._understood():
            return [
                Refused(one["error"]["code"], one["error"]["message"])
                if "error" in one
                else Enrolled.of(one["faces"], one["bbox"], [told["message"] for told in one.get("warnings", ())])
                for one in answer["photos"]
            ]

    @override
    def recognise(self, picture: bytes, how: How = How()) -> Sequence[Seen]:
        query = {"include_unknown": "true", "quality": "true"} | _fields(how)
        kind = {"Content-Type": "image/jpeg"}
        answer = self._json("POST", "/face-recognition", params=query, headers=kind, data=picture)
        with self._understood():
            return [_read_seen(one) for one in answer]

    @override
    def verify(self, first: bytes, second: bytes, how: How = How(), faces: Faces = (None, None)) -> Comparison:
        form: _Files = [("image1", ("first", first)), ("image2", ("second", second))]
        form += [(name, (None, value)) for name, value in _fields(how).items()]
        form += [*_field("quality", "true"), *_field("face1", faces[0]), *_field("face2", faces[1])]
        answer = self._json("POST", "/face-verification", files=form)
        with self._understood():
            boxes = _box(answer["bbox1"]), _box(answer["bbox2"])
            known = answer["same"], answer["distance"], answer["threshold"], answer["false_match_rate"]
            first_score, second_score = answer.get("liveness1"), answer.get("liveness2")
            scores = None if first_score is None else (first_score, second_score)
            qualities = answer["quality1"]["quality"], answer["quality2"]["quality"]
            return Comparison(*known, boxes, qualities, answer["reason"], scores)

    @override
    def encode(self, picture: bytes, detection: Effort | None = None) -> Encoding:
        query = {"encoding": "true"} | _fields(How(detection=detection))
        kind = {"Content-Type": "image/jpeg"}
        response = self._call("POST", "/face/detect", params=query, headers=kind, data=picture)
        with self._understood():
            faces = response.json()["faces"]
            if not faces:
                raise FaceNotFound("There is no face in the image.")
            one = max(faces, key=lambda face: _area(face["position"]))
            vector = np.array(one["face_encoding"], np.float32)
            return Encoding(response.headers["X-Embedding-Space"], Metric(response.headers["X-Metric"]), vector)

    @override
    def calibrate(self, space: str, metric: Metric, curve: Curve) -> None:
        self._json("PUT", "/calibration", json={"space": space, "distance": metric, "curve": asdict(curve)})

    @override
    def reset_calibration(self) -> None:
        self._json("DELETE", "/calibration")

    @override
    def people(self, text: str | None, metadata: Sequence[Condition] = ()) -> Iterator[Person]:
        query = [("limit", str(_PAGE)), *([] if text is None else [("text", text)])]
        query += [(".".join(("metadata", *condition.path)), condition.value) for condition in metadata]
        return self._pages("/people", "people", query, "after", _read_person)

    @override
    def events(self, which: EventFilter, limit: int) -> Iterator[Event]:
        asked = vars(which) | {"since": _time(which.since), "until": _time(which.until)}
        query = [(name, str(value)) for name, value in asked.items() if value is not None]
        return self._pages("/events", "events", [*query, ("limit", str(min(limit, _PAGE)))], "before", _read_event)

    @override
    def person(self, id: str) -> Person:
        answer = self._json("GET", _person(id))
        with self._understood():
            return _read_person(answer)

    @override
    def rename(self, id: str, name: str) -> None:
        self._json("PATCH", _person(id), json={"name": name})

    @override
    def delete(self, id: str) -> None:
        try:
            check_id(id)
        except InvalidRequest:  # of somebody from former releases
            self._json("DELETE", "/people", params={"id": id})
        else:
            self._json("DELETE", _person(id))

    @override
    def clear(self) -> None:
        self._json("DELETE", "/clear-samples")

    @override
    def photos(self, id: str) -> Sequence[StoredPhoto]:
        return list(self._pages(f"{_person(id)}/photos", "photos", [], "after", _read_photo))

    @override
    def delete_photo(self, id: str, number: int) -> None:
        self._json("DELETE", f"{_person(id)}/photos/{number}")

    @override
    def export(self) -> Iterator[Record]:
        """Holds all vectors in memory; those of other models are missing."""
        space, vectors = self._vectors()
        for person in self.people(None):
            own = [(space, vector) for vector in vectors.pop(person.id, {}).values()]
            yield Record.of(person, own, missing=max(0, person.samples - len(own)))

    def ready(self) -> Mapping[str, Any]:
        """What /readyz answers, when it is ready."""
        answer = self._json("GET", "/readyz")
        with self._understood():
            # The extraction service, at a wrong address, has no threshold.
            return {"min_distance": answer["min_distance"], **answer}

    @override
    def close(self) -> None:
        self._session.close()

    def _pages(
        self, path: str, name: str, query: Sequence[tuple[str, str]], cursor: str, read: Callable[[Any], T]
    ) -> Iterator[T]:
        """The entries of a list that is given out page by page."""
        place: list[tuple[str, str]] = []
        while True:
            answer = self._json("GET", path, params=[*query, *place])
            with self._understood():
                found, following = [read(one) for one in answer[name]], answer["next"]
            yield from found
            if following is None:
                return
            place = [(cursor, str(following))]

    def _vectors(self) -> tuple[str, dict[str, dict[int, Vector]]]:
        """The embedding space in use, and the vectors in it: of each person, by number."""
        for _ in range(_MOST_STARTS):
            try:
                return self._followed_vectors()
            except Refused as error:
                if error.code != _CURSOR_EXPIRED:
                    raise
        raise Unreachable(f"{self.url} forgets again and again what has changed: try again later.")

    def _followed_vectors(self) -> tuple[str, dict[str, dict[int, Vector]]]:
        found: dict[str, dict[int, Vector]] = {}
        owners: dict[int, str] = {}
        query: dict[str, str] = {"limit": str(_PAGE)}
        space: str | None = None
        while True:
            response = self._call("GET", "/faces/sync", params=query)
            with self._understood():
                now = response.headers["X-Embedding-Space"]
                if space not in (None, now):
                    raise Refused("embedding_space_mismatch", "The service has changed its model: begin again.")
                space = now
                for entry in response.json():
                    number = int(entry["faceId"])
                    found.get(owners.pop(number, ""), {}).pop(number, None)
                    if not entry.get("deleted"):
                        owners[number] = str(entry["personId"])
                        vector = np.array(entry["faceEncoding"], np.float32)
                        found.setdefault(owners[number], {})[number] = vector
                query["last_updated_at"] = response.headers["X-Next-Cursor"]
            if "next" not in response.links:
                return space, found

    def _json(self, method: str, path: str, **request: Any) -> Any:
        response = self._call(method, path, **request)
        with self._understood():
            return response.json()

    def _call(self, method: str, path: str, **request: Any) -> requests.Response:
        """The answer, once it is a good one. A request that is done only once is sent again when its connection breaks.

        Raises:
            Refused, Unreachable: there is none.
        """
        deadline = time.monotonic() + _PATIENCE
        broken = 0
        while True:
            try:
                # No redirects: the key is for this address only.
                response = self._session.request(
                    method, self.url + path, timeout=_TIMEOUTS, allow_redirects=False, **request
                )
            except requests.ConnectionError as error:
                broken += 1
                if _IDEMPOTENCY_KEY in request.get("headers", {}) and broken <= _MOST_BROKEN:
                    time.sleep(broken)
                    continue
                raise Unreachable(
                    f"Nothing answers at {self.url}. Start the service (make run), name another address with --url, "
                    "or work without a service: --local."
                ) from error
            except requests.RequestException as error:
                raise Unreachable(f"{self.url} cannot be asked: {type(error).__name__}.") from error
            if 200 <= response.status_code < 300:
                return response
            if response.status_code != 429 or time.monotonic() > deadline:
                raise self._refusal(response)
            wait = response.headers.get("Retry-After", "")
            time.sleep(min(int(wait), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else 1)

    def _refusal(self, response: requests.Response) -> ServiceError:
        """The service's own error, in any of the three forms that its operations have."""
        with self._understood():
            body = response.json()
            if isinstance(error := body.get("error"), dict):
                code, message, input = str(error["code"]), str(error["message"]), error.get("input")
            elif "code" in body:
                code, message, input = str(body["code"]), str(body["detail"]), body.get("input")
            else:
                code, message, input = str(body["error_type"]), str(body["error_message"]), None
            if response.status_code == 401:
                message += " Put it into the environment variable FACE_API_KEY."
            return Refused(code, message, input)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreachable(f"{self.url} does not answer as this service does.") from error


def extraction_status(url: str, seconds: float = 5) -> int | None:
    """HTTP status with which an extraction service says whether it is ready; None when nothing answers."""
    try:
        return requests.get(f"{url.rstrip('/')}/readyz", timeout=seconds).status_code
    except requests.RequestException:
        return None


def _once() -> dict[str, str]:
    """Headers of a request that may be sent again without being done again."""
    return {_IDEMPOTENCY_KEY: uuid4().hex}


def _field(name: str, value: str | None) -> _Files:
    return [] if value is None else [(name, (None, value))]


def _person(id: str) -> str:
    return f"/people/{quote(id, safe='')}"


def _looking(look: Look) -> _Files:
    return [
        *_field("face", look.face),
        *_field("detection", look.detection),
        *_field("on_conflict", look.on_conflict),
    ]


def _fields(how: How) -> dict[str, str]:
    threshold = {name: repr(value) for name, value in named_threshold(how.limit).items()}
    check = {"liveness": "true"} if how.liveness else {}
    return threshold | check | ({"detection": how.detection} if how.detection else {})


def _box(text: str) -> Box:
    x, y, width, height = (int(part) for part in text.split(","))
    return Box(x, y, width, height)


def _area(position: Mapping[str, int]) -> int:
    return (position["right"] - position["left"]) * (position["bottom"] - position["top"])


def _time(moment: int | None) -> str | None:
    return None if moment is None else time_text(moment)


def _read_photo(one: Any) -> StoredPhoto:
    return StoredPhoto(one["number"], one["space"], datetime.fromisoformat(one["updated_at"]))


def _read_seen(one: Any) -> Seen:
    is_known = bool(one["id"])
    return Seen(
        _box(one["bbox"]),
        one["id"] or None,
        one["name"] if is_known else None,
        one["distance"],
        one["threshold"],
        one["false_match_rate"] if is_known else None,
        one["margin"] if is_known else None,
        bool(is_known and one["ambiguous"]),
        one.get("reason"),
        one["quality"],
        one.get("liveness"),
        one["angle"],
    )


def _read_event(one: Any) -> Event:
    occasion = Occasion(one["api_key"], one["device"], one["latitude"], one["longitude"])
    return Event(
        one["number"],
        moment_of(one["at"]),
        EventKind(one["kind"]),
        one["person"],
        one["name"],
        one["distance"],
        occasion,
        one["crop"],
    )


def _read_person(one: Any) -> Person:
    return Person(
        one["id"], one["name"], one["metadata"], one["action"], one["photos"], one["created_at"], one["updated_at"]
    )
