"""Bad input made of good: real requests of every door, spoilt in one place or several, the same ones for the same seed.

A case is made from its seed and its number alone, so that one that was answered wrongly can be made again.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import cv2
import numpy as np

from benchmarks.prove.installation import portraits

Random = random.Random

_BOUNDARY = "prove-boundary"
_URLENCODED = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Case:
    """A request.

    Attributes:
        number: among those of its seed.
        door: pattern of the path, for the report.
        chunked: whether the body is sent in chunks, without its length.
    """

    number: int
    door: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunked: bool = False

    def encode(self, host: str, key: str) -> bytes:
        """All that goes over the connection."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}", f"X-API-Key: {key}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            half = len(self.body) // 2
            parts = [part for part in (self.body[:half], self.body[half:]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(self.body)}")
            body = self.body
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Door:
    """An address that takes a body.

    Attributes:
        members: of a JSON body with a picture (base64); None where there is no JSON.
        file: field of a multipart form with the picture; None where there is none.
        bare: whether the picture alone is a body.
        query: parameters.
    """

    method: str
    path: str
    members: Callable[[str], Any] | None = None
    file: str | None = None
    bare: bool = False
    query: tuple[tuple[str, str], ...] = ()


def _totem(image: str) -> dict[str, Any]:
    numbers = {"requestNumber": 1, "companyCode": 1042, "captureDeviceCode": 31, "appCode": 3, "keyPerson": 4711}
    return numbers | {"latitude": -23.5, "longitude": -46.6, "typeImage": 2, "imageValidate": image}


_ASKED = (("include_unknown", "true"), ("candidates", "3"), ("min_distance", "9"))
_PERSON = {"id": "p1", "name": "Ann", "metadata": {"floor": 2, "tags": ["a", "b"]}, "action": "open"}
_CALIBRATION = {
    "space": "facenet",
    "distance": "cosine",
    "curve": {"people": 20, "impostor_pairs": 400, "genuine_pairs": 40, "points": [[0, 0, 0], [0.5, 0.1, 0.9]]},
}

DOORS = (
    Door("POST", "/update-samples", lambda image: [_PERSON | {"image": image}], "image", query=()),
    Door("POST", "/face-recognition", lambda image: {"image": image, "min_distance": 9}, "image", True, _ASKED),
    Door("POST", "/face-detection", lambda image: {"image": image}, "image", True),
    Door("POST", "/face-verification", lambda image: {"image1": image, "image2": image}, "image1"),
    Door("PATCH", "/people/p1", lambda image: {"name": "Ann", "metadata": {"floor": 3}, "action": "open"}),
    Door("POST", "/people/p1/photos", lambda image: {"images": [image], "name": "Ann"}, "image"),
    Door("POST", "/people/p1/verification", lambda image: {"image": image}, "image", True),
    Door("POST", "/companies", lambda image: {"company": "7", "name": "Acme", "settings": {"min_distance": 8}}),
    Door("PATCH", "/companies/1042", lambda image: {"name": "Acme", "settings": {"rule": "vote", "neighbours": 5}}),
    Door("PUT", "/companies/1042/sectors/7", lambda image: {"name": "Ground floor"}),
    Door("PUT", "/companies/1042/devices/31", lambda image: {"name": "Front door", "sector": 7}),
    Door("PUT", "/calibration", lambda image: _CALIBRATION),
    Door("POST", "/companies/1042/keys", lambda image: {"name": "k", "rights": ["recognise"], "max_samples": 5}),
    Door("POST", "/", _totem),
    Door("POST", "/companies/recognition", _totem),
    Door("POST", "/api/train", lambda image: {"id": "p2", "name": "Bob", "image": image}, "file"),
    Door("POST", "/api/recognize", lambda image: {"image": image}, "file", True, (("draw", "1"), ("mask", "unknown"))),
    Door("POST", "/api/clear", lambda image: {"name": "nobody"}),
    Door("POST", "/face", lambda image: {"image": image, "unique_args": {"name": "Cid", "n": 1}}, "image", True),
    Door("POST", "/face/match", lambda image: {"image": image}, "image", True),
    Door("POST", "/face/detect", lambda image: {"image": image, "encoding": True}, "image", True),
    Door("POST", "/face/update", lambda image: {"face_id": 1, "image": image, "unique_args": {"n": 2}}, "image"),
    Door("POST", "/face/delete", lambda image: {"face_id": 999}, None),
    Door("POST", "/train/", lambda image: {"userName": "dan", "stream": [image]}, "stream"),
    Door("POST", "/recognize", lambda image: {"userName": "dan", "picture": image}, "picture"),
    Door("POST", "/train/stream", None, "photo", query=(("userName", "eve"),)),
    Door("GET", "/people", query=(("limit", "10"), ("after", "a"), ("text", "ann"))),
    Door("GET", "/events", query=(("limit", "10"), ("kind", "recognised"), ("before", "99"), ("person", "p1"))),
    Door("GET", "/faces/sync", query=(("limit", "10"), ("last_updated_at", "0"))),
    Door("GET", "/face", query=(("face_id", "1"),)),
    Door("GET", "/api/faces", query=(("limit", "10"), ("after", "a"))),
    Door("GET", "/people/p1"),
    Door("GET", "/events/1/crop"),
)

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    2**64 + 1,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    ".",
    "..",
    "a" * 600,
    "\x00",
    "\ud800",
    "김민수",
    "김민수",
    "é" * 300,
    "😀",
    "' OR 1=1 --",
    "../../etc/passwd",
    "%00",
    "\r\nX-Injected: 1",
    "9999999999999999999999",
    "-0",
    "1e999",
    "NaN",
    "http://127.0.0.1:1/x.jpg",
    "data:image/jpeg;base64,",
    "data:text/html;base64,PGI+",
    [],
    {},
    [[]],
    {"": ""},
    [None] * 200,
    {"a": {"b": {"c": [1, 2, {"d": None}]}}},
)
_TEXTS = tuple(value for value in _VALUES if isinstance(value, str))
_TYPES = (
    "application/json",
    "application/json; charset=utf-16",
    "application/json; charset=nonsense",
    "text/plain",
    "image/jpeg",
    "image/nonsense",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    f"multipart/form-data; boundary={'b' * 200}",
    "multipart/mixed; boundary=x",
    "application/x-ndjson",
    ";;;",
    "",
)


@cache
def _pictures() -> tuple[bytes, ...]:
    """Small pictures: some with a face, more without, in every format that OpenCV writes."""
    face = cv2.imdecode(np.frombuffer(portraits()["obama"][0], np.uint8), cv2.IMREAD_COLOR)
    assert face is not None
    face = cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA)
    plain = np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)
    alpha = np.dstack([plain, plain[:, :, :1]])
    kinds = (".jpg", ".png", ".webp", ".bmp", ".tiff")
    pictures = [cv2.imencode(kind, plain)[1].tobytes() for kind in kinds]
    pictures += [cv2.imencode(kind, alpha)[1].tobytes() for kind in (".png", ".webp", ".tiff")]
    pictures += [cv2.imencode(".png", plain.astype(np.uint16) * 257)[1].tobytes(), _with_exif(pictures[0])]
    return (*pictures * 2, cv2.imencode(".jpg", face)[1].tobytes())


def _with_exif(jpeg: bytes) -> bytes:
    """A JPEG with an orientation."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def case(seed: int, number: int) -> Case:
    """A case, the same one whenever it is made."""
    chance = Random(f"{seed}:{number}")
    door = chance.choice(DOORS)
    spoil_picture = chance.random() < 0.4
    picture = chance.choice(_pictures())
    if spoil_picture:
        picture = _spoil_picture(chance, picture)
    made = _request(chance, door, number, picture, spoilt=spoil_picture)
    return _spoil_frame(chance, made) if chance.random() < 0.25 else made


def _request(chance: Random, door: Door, number: int, picture: bytes, spoilt: bool) -> Case:
    """A request to a door in one of the forms that it takes; something of it is spoilt unless the picture is."""
    forms: list[Callable[[], tuple[str, bytes]]] = []
    if door.members is not None:
        members = door.members
        forms.append(lambda: ("application/json", _json_body(chance, members(_text_of(chance, picture)), spoilt)))
        forms.append(lambda: (_URLENCODED, _urlencoded(chance, members(_text_of(chance, picture)), spoilt)))
    if door.file is not None:
        file = door.file
        forms.append(lambda: (f"multipart/form-data; boundary={_BOUNDARY}", _form(chance, file, picture, spoilt)))
    if door.bare:
        forms.append(lambda: (chance.choice(("image/jpeg", "image/png", "image/*")), picture))
    if door.path == "/train/stream":
        forms.append(lambda: ("application/x-ndjson", _lines(chance, picture)))
    kind, body = chance.choice(forms)() if forms else ("", b"")
    query = list(door.query)
    if query and (not forms or chance.random() < 0.2):
        query = _spoil_query(chance, query)
    target = door.path + (f"?{urlencode(query, errors='surrogatepass')}" if query else "")
    if "p1" in target and chance.random() < 0.1:
        target = target.replace("p1", quote(chance.choice(_TEXTS).encode("utf-8", "surrogatepass"), safe=""), 1)
    headers = (("Content-Type", kind),) if kind else ()
    return Case(number, door.path, door.method, target, headers, body)


def _text_of(chance: Random, picture: bytes) -> str:
    """A picture as text, in one of the spellings that there are, not all of them right."""
    text = base64.b64encode(picture).decode()
    match chance.randrange(12):
        case 0:
            return text
        case 1:
            return base64.urlsafe_b64encode(picture).decode()
        case 2:
            return text.rstrip("=")
        case 3:
            return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        case 4:
            return f"  data:image/jpeg;base64,{text}"
        case 5:
            return f"data:;base64,{text}"
        case 6:
            return f"data:image/jpeg,{quote(picture)}"
        case 7:
            return f"data:image/jpeg;base64;base64,{text}="
        case 8:
            return text.replace("A", chance.choice("?é\x00 "), 3)
        case _:
            return f"data:image/jpeg;base64,{text}"


def _json_body(chance: Random, value: Any, spoilt: bool) -> bytes:
    """JSON of which a value, a name or the text is spoilt."""
    for _ in range(0 if spoilt else chance.choice((1, 1, 1, 2, 4))):
        value = _spoil_value(chance, value)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    match chance.randrange(24):
        case 0:
            text = text[: chance.randrange(len(text) + 1)]
        case 1:
            text = "[" * 3000 + text + "]" * 3000
        case 2:
            text = text.replace("{", '{"id": "twice", "image": 1, ', 1)
        case 3:
            text = json.dumps(text)
        case 4:
            return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
        case 5:
            return text.encode("utf-16", "surrogatepass")
        case 6:
            return _flip(chance, text.encode("utf-8", "surrogatepass"))
        case 7:
            text += chance.choice((",", "}", "\x00", "//", text))
        case 8:
            text = text.replace('"', "'")
        case 9:
            text = text.replace(":", ": 1E400 ,", 1)
    return text.encode("utf-8", "surrogatepass")


def _spoil_value(chance: Random, value: Any) -> Any:
    """The value with a node replaced, left out, renamed or added somewhere."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {other: kept for other, kept in value.items() if other != name}
            case 1:
                return value | {chance.choice((*_TEXTS, name.upper(), f"{name}x")): chance.choice(_VALUES)}
            case 2:
                return {(name[:-1] if other == name else other): kept for other, kept in value.items()}
            case _:
                return value | {name: _spoil_value(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value * chance.choice((0, 2, 3))
        return [*value[:at], _spoil_value(chance, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and chance.random() < 0.3:
        return value[: chance.randrange(len(value) + 1)] + chance.choice(_TEXTS)
    return chance.choice(_VALUES)


def _form(chance: Random, field: str, picture: bytes, spoilt: bool) -> bytes:
    """A multipart form of which a head, a boundary or a part is spoilt."""
    fields = {"id": "p3", "name": "Ann", "userName": "dan", "face_id": "1", "unique_args": '{"a": 1}', "encoding": "1"}
    parts = [(f'form-data; name="{field}"; filename="a.jpg"', "image/jpeg", picture)]
    if field == "image1":
        parts.append(('form-data; name="image2"; filename="b.jpg"', "image/jpeg", picture))
    named = chance.sample(list(fields), chance.randrange(3)) + (["id", "name"] if chance.random() < 0.4 else [])
    parts += [(f'form-data; name="{name}"', "", fields[name].encode()) for name in dict.fromkeys(named)]
    chance.shuffle(parts)
    kind = -1 if spoilt else chance.randrange(14)
    at = chance.randrange(len(parts))
    disposition, content, data = parts[at]
    heads = {
        0: (chance.choice(("", "form-data", "attachment", 'form-data; name=""', "form-data; name=*")), content, data),
        1: (f'form-data; name="{chance.choice(_TEXTS)}"', content, data),
        2: (f"{disposition}; filename*=utf-8''%ff%zz", content, data),
        3: (disposition, f"{content}\r\nContent-Transfer-Encoding: {chance.choice(('base64', '8bit', 'x'))}", data),
        4: (disposition, f"{content}\r\nContent-Length: {chance.choice((0, 1, -1, 10**12))}", data),
        5: (disposition, "text/plain; charset=nonsense", data),
        6: (disposition, content, chance.choice(_TEXTS).encode("utf-8", "surrogatepass")),
        7: (disposition, f"{content}\r\nX-Long: {'x' * 9000}", data),
        8: (disposition, "multipart/mixed; boundary=inner", b"--inner\r\n\r\nx\r\n--inner--"),
    }
    if kind in heads:
        parts[at] = heads[kind]
    if kind == 9:
        parts *= chance.choice((2, 40))
    delimiter = f"--{_BOUNDARY}"
    pieces = []
    for disposition, content, data in parts:
        head = f"{delimiter}\r\nContent-Disposition: {disposition}\r\n" + (
            f"Content-Type: {content}\r\n" if content else ""
        )
        pieces.append(head.encode("utf-8", "surrogatepass") + b"\r\n" + data + b"\r\n")
    body = b"".join(pieces) + f"{delimiter}--\r\n".encode()
    match kind:
        case 10:
            return body[: chance.randrange(len(body))]
        case 11:
            return body.replace(b"\r\n", b"\n")
        case 12:
            return _flip(chance, body)
        case 13:
            return body.replace(delimiter.encode(), b"--another", chance.choice((1, 2)))
        case _:
            return body


def _urlencoded(chance: Random, value: Any, spoilt: bool) -> bytes:
    """A form with the members of an object, or of the first one in a list, of which a value or an escape is spoilt."""
    fields = value[0] if isinstance(value, list) else value
    if not spoilt:
        fields = _spoil_value(chance, fields)
    if not isinstance(fields, dict):
        fields = {"image": fields}
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in fields.items()}
    body = urlencode(texts, errors="surrogatepass").encode()
    match chance.randrange(8):
        case 0:
            return body.replace(b"%", chance.choice((b"%%", b"%z", b"%2525")), 2)
        case 1:
            return body.replace(b"&", chance.choice((b"&&", b";", b"&=", b"&a&")), 2)
        case 2:
            return body.replace(b"%2B", b"+")
        case 3:
            return body + b"&" + body
        case _:
            return body


def _lines(chance: Random, picture: bytes) -> bytes:
    """What /train/stream reads line by line."""
    lines = [
        _json_body(chance, {"picture": _text_of(chance, picture)}, chance.random() < 0.5).replace(b"\n", b" ")
        for _ in range(chance.choice((0, 1, 1, 2, 3)))
    ]
    return chance.choice((b"\n", b"\r\n", b"\n\n", b"\r")).join(lines)


def _spoil_query(chance: Random, query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    at = chance.randrange(len(query))
    name, value = query[at]
    match chance.randrange(5):
        case 0:
            return [*query, (name, value)]
        case 1:
            return [*query, (name[:-1], value)]
        case _:
            number = str(chance.choice((-1, 0, 1e9, 2**63, 2**64, "1_0", "0x1", "+1", " 1", "١")))
            return [*query[:at], (name, chance.choice((*_TEXTS, number, number, number))), *query[at + 1 :]]


def _spoil_picture(chance: Random, picture: bytes) -> bytes:
    match chance.randrange(8):
        case 0:
            return picture[: chance.randrange(len(picture))]
        case 1:
            return picture + bytes(chance.randrange(64))
        case 2:
            other = chance.choice(_pictures())
            return picture[: chance.randrange(len(picture))] + other[chance.randrange(len(other)) :]
        case 3:
            return chance.choice((b"", b"\xff\xd8\xff", b"RIFF\x10\x00\x00\x00WEBPVP8X", b"BM", b"GIF89a", b"II*\x00"))
        case 4:  # sizes and offsets stand in the first bytes
            return _flip(chance, picture[:64]) + picture[64:]
        case 5:
            at = chance.randrange(len(picture))
            return picture[:at] + chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff")) + picture[at + 4 :]
        case 6:
            at = chance.randrange(len(picture))
            return picture[:at] + picture[at + chance.randrange(1, 64) :]
        case _:
            return _flip(chance, picture)


def _spoil_frame(chance: Random, made: Case) -> Case:
    """The request with another head, still one that ends where its head says."""
    match chance.randrange(6):
        case 0:
            return replace(made, headers=(("Content-Type", chance.choice(_TYPES)),))
        case 1:
            return replace(made, headers=())
        case 2:
            return replace(made, chunked=True)
        case 3:
            encoding = chance.choice(("gzip", "deflate", "br", "identity", "nonsense"))
            return replace(made, headers=(*made.headers, ("Content-Encoding", encoding)))
        case 4:
            name = chance.choice(
                ("X-Request-ID", "Idempotency-Key", "Accept", "Origin", "Range", "If-None-Match", "X-é")
            )
            value = chance.choice(("", "x" * 3000, '"', "*/*;q=nonsense", "null", "bytes=5-1", "\xff"))
            return replace(made, headers=(*made.headers, (name, value)))
        case _:
            return replace(made, body=_flip(chance, made.body))


def _flip(chance: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(changed), chance.choice((1, 2, 8, 32)))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
