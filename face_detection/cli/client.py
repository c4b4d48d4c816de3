"""A running service over HTTP. The only module of the command line that knows HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import requests

from face_detection.cli.service import Comparison, Enrolled, Outcome, Photo, Record, Seen, StoredPhoto
from face_detection.gallery.store import Person, Vector
from shared.errors import ServiceError, SettingsError
from shared.geometry import Box

_TIMEOUTS = (10, 960)
"""Seconds for the connection, and for an answer to begin."""

_PATIENCE, _LONGEST_WAIT = 600.0, 60
"""Seconds for which a busy service is asked again, and most seconds between two of these requests."""

_PAGE = 1000
_TOO_LARGE = "body_too_large"

_Files = list[tuple[str, tuple[str | None, str | bytes]]]


class Refused(ServiceError):
    """The service refused, with a code of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(ServiceError):
    """Nothing answers, or something else than this service."""

    code = "unreachable"


class RemoteService:
    """See ``Service``.

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

    def prepare(self) -> None:
        """See ``Service.prepare``."""
        self.ready()

    def enrol(self, photos: Sequence[Photo]) -> Sequence[Outcome]:
        """See ``Service.enrol``."""
        form: _Files = []
        for photo in photos:
            form += [("id", (None, photo.id)), ("name", (None, photo.name)), ("image", ("photo", photo.picture))]
        try:
            answer = self._json("POST", "/update-samples", files=form)
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

    def add(self, id: str, name: str, pictures: Sequence[bytes]) -> Sequence[Outcome]:
        """See ``Service.add``."""
        form: _Files = [("name", (None, name)), *(("image", ("photo", picture)) for picture in pictures)]
        try:
            answer = self._json("POST", f"{_person(id)}/photos", files=form)
        except Refused as error:
            if error.code != _TOO_LARGE:
                raise
            if len(pictures) == 1:
                return [error]
            return [one for picture in pictures for one in self.add(id, name, [picture])]
        with self._understood():
            return [
                Refused(one["error"]["code"], one["error"]["message"]) if "error" in one else Enrolled.of(one["faces"])
                for one in answer["photos"]
            ]

    def recognise(self, picture: bytes, min_distance: float | None) -> Sequence[Seen]:
        """See ``Service.recognise``."""
        query = {"include_unknown": "true"} | _threshold(min_distance)
        kind = {"Content-Type": "image/jpeg"}
        answer = self._json("POST", "/face-recognition", params=query, headers=kind, data=picture)
        with self._understood():
            return [
                Seen(_box(one["bbox"]), one["id"] or None, one["name"] if one["id"] else None, one["distance"])
                for one in answer
            ]

    def verify(self, first: bytes, second: bytes, min_distance: float | None) -> Comparison:
        """See ``Service.verify``."""
        form: _Files = [("image1", ("first", first)), ("image2", ("second", second))]
        form += [(name, (None, value)) for name, value in _threshold(min_distance).items()]
        answer = self._json("POST", "/face-verification", files=form)
        with self._understood():
            boxes = _box(answer["bbox1"]), _box(answer["bbox2"])
            return Comparison(answer["same"], answer["distance"], answer["threshold"], boxes)

    def people(self, text: str | None) -> Iterator[Person]:
        """See ``Service.people``."""
        query: dict[str, str] = {"limit": str(_PAGE)} | ({} if text is None else {"text": text})
        while True:
            answer = self._json("GET", "/people", params=query)
            with self._understood():
                found, following = [_read_person(one) for one in answer["people"]], answer["next"]
            yield from found
            if following is None:
                return
            query["after"] = following

    def person(self, id: str) -> Person:
        """See ``Service.person``."""
        answer = self._json("GET", _person(id))
        with self._understood():
            return _read_person(answer)

    def rename(self, id: str, name: str) -> None:
        """See ``Service.rename``."""
        self._json("PATCH", _person(id), json={"name": name})

    def delete(self, id: str) -> None:
        """See ``Service.delete``."""
        self._json("DELETE", _person(id))

    def clear(self) -> None:
        """See ``Service.clear``."""
        self._json("DELETE", "/clear-samples")

    def photos(self, id: str) -> Sequence[StoredPhoto]:
        """See ``Service.photos``."""
        answer = self._json("GET", f"{_person(id)}/photos")
        with self._understood():
            return [
                StoredPhoto(one["number"], one["space"], datetime.fromisoformat(one["updated_at"]))
                for one in answer["photos"]
            ]

    def delete_photo(self, id: str, number: int) -> None:
        """See ``Service.delete_photo``."""
        self._json("DELETE", f"{_person(id)}/photos/{number}")

    def export(self) -> Iterator[Record]:
        """See ``Service.export``. Holds all vectors in memory; those of other models are missing."""
        space, vectors = self._vectors()
        for person in self.people(None):
            own = [(space, vector) for vector in vectors.pop(person.id, {}).values()]
            yield Record(person.id, person.name, person.metadata, person.action, own, max(0, person.samples - len(own)))

    def ready(self) -> Mapping[str, Any]:
        """What /readyz answers, when it is ready."""
        answer = self._json("GET", "/readyz")
        with self._understood():
            # The extraction service, at a wrong address, has no threshold.
            return {"min_distance": answer["min_distance"], **answer}

    def close(self) -> None:
        """See ``Service.close``."""
        self._session.close()

    def _vectors(self) -> tuple[str, dict[str, dict[int, Vector]]]:
        """The embedding space in use, and the vectors in it: of each person, by number."""
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
        """The answer, once it is a good one.

        Raises:
            Refused, Unreachable: there is none.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                # No redirects: the key is for this address only.
                response = self._session.request(
                    method, self.url + path, timeout=_TIMEOUTS, allow_redirects=False, **request
                )
            except requests.ConnectionError as error:
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
                code, message = str(error["code"]), str(error["message"])
            elif "code" in body:
                code, message = str(body["code"]), str(body["detail"])
            else:
                code, message = str(body["error_type"]), str(body["error_message"])
            if response.status_code == 401:
                message += " Put it into the environment variable FACE_API_KEY."
            return Refused(code, message)

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


def _person(id: str) -> str:
    return f"/people/{quote(id, safe='')}"


def _threshold(min_distance: float | None) -> dict[str, str]:
    return {} if min_distance is None else {"min_distance": repr(min_distance)}


def _box(text: str) -> Box:
    x, y, width, height = (int(part) for part in text.split(","))
    return Box(x, y, width, height)


def _read_person(one: Any) -> Person:
    return Person(
        one["id"], one["name"], one["metadata"], one["action"], one["photos"], one["created_at"], one["updated_at"]
    )
