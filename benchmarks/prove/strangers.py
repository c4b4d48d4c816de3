"""Strangers to a tenant: every operation of /openapi.json with every credential that must not do."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import requests

from benchmarks.prove.installation import data_uri, install, portraits, tracebacks
from benchmarks.prove.promises import Findings, Promise

TENANT, OTHER = "1042", "88"
SECRET = "Rumpelstilzchen"
"""In every thing of the tenant: no stranger may see it in an answer."""

CREDENTIALS = ("no key", "wrong key", "expired", "revoked", "another tenant's", "lesser right")

OPEN = frozenset(
    {
        "GET /",
        "GET /api",
        "GET /docs",
        "GET /face-recognition",
        "GET /livez",
        "GET /offline",
        "GET /offline/page/{file}",
        "GET /offline/runtime/{file}",
        "GET /offline/service-worker.js",
        "GET /openapi.json",
        "GET /readyz",
        "GET /update-samples",
    }
)
"""What needs no key, and says nothing of anybody."""

BY_ITSELF = {
    "POST /": "recognise",
    "POST /companies/recognition": "recognise",
    "POST /train/": "enrol",
    "POST /train": "enrol",
    "POST /recognize/": "recognise",
    "POST /recognize": "recognise",
    "GET /live": "recognise",
}
"""Operations that take their key from the body, or find out about it by themselves, with the right that they need."""

NAMED = frozenset(
    {
        "GET /face",
        "POST /face/update",
        "POST /face/delete",
        "POST /",
        "POST /companies/recognition",
        "POST /recognize",
        "POST /recognize/",
    }
)
"""Where the body or the query names what is the tenant's; elsewhere the path does."""

ABSENT = {"id": "nobody", "number": "987654", "company": "77", "code": "987654", "face_id": "987654", "file": "page.js"}
"""Values that name nothing of any tenant."""


@dataclass(frozen=True)
class Cell:
    """One operation with one credential.

    Attributes:
        seen: status, or the close code of a WebSocket.
        fault: what is wrong with it; empty for nothing.
    """

    seen: int
    fault: str


@dataclass(frozen=True)
class Seen:
    """An answer, without what differs between two requests anyway."""

    status: int
    text: str = ""

    @classmethod
    def of(cls, response: requests.Response) -> Seen:
        """An HTTP answer."""
        return cls(response.status_code, _VARYING.sub("", response.text))


_VARYING = re.compile(
    r'"(request_id|requestId|at|updated_at|created_at|updatedAt|detectionTime|number)":\s*("[^"]*"|[\d.e-]+)'
)


@dataclass(frozen=True)
class Guarded:
    """An operation, with the right that it needs."""

    method: str
    path: str
    right: str
    operator: bool

    @property
    def name(self) -> str:
        """Method and pattern of the path."""
        return f"{self.method} {self.path}"

    @property
    def named(self) -> bool:
        """Whether a request names something that is a tenant's."""
        return "{" in self.path.replace("{file}", "") or self.name in NAMED


def guarded(description: Mapping[str, Any]) -> tuple[list[Guarded], list[str]]:
    """The operations of a description that need a key, and the names of those of which nobody knows whether they do."""
    found, unknown = [], []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            text = operation.get("description", "")
            stated = re.search(r"with the right `(\w+)`( of the company)?", text)
            if stated and operation.get("security"):
                found.append(Guarded(method.upper(), path, stated[1], bool(stated[2])))
            elif name in BY_ITSELF:
                found.append(Guarded(method.upper(), path, BY_ITSELF[name], False))
            elif name not in OPEN:
                unknown.append(name)
    return found, unknown


def judge(operation: Guarded, credential: str, seen: Seen, absent: Seen | None, changed: bool) -> str:
    """What is wrong with an answer to a stranger; empty for nothing.

    Args:
        absent: the answer to the same about something that does not exist, where the request names something.
        changed: whether anything of the tenant's has changed.
    """
    if SECRET in seen.text:
        return "tells what is the tenant's"
    if changed:
        return "changes what is the tenant's"
    if credential == "another tenant's":
        if operation.operator:
            return "" if seen.status in (403, 404) else f"is answered with {seen.status}"
        return "" if absent in (None, seen) else f"is answered with {seen.status}, not as if there were nothing"
    expected = (403, 4403) if credential == "lesser right" else (401, 4401)
    return "" if seen.status in expected else f"is answered with {seen.status}"


class Tenants:
    """A front with two tenants that have everything, and the credentials of strangers to the first.

    Args:
        url: of the front, without any key so far.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.operator = {"X-API-Key": self._key("default", {}, "admin")["key"]}
        self.photo = portraits()["obama"][0]
        image = data_uri(self.photo)
        self.full = {}
        for tenant in (TENANT, OTHER):
            self._call(
                "POST", "/companies", {"company": tenant, "name": tenant, "settings": {"keep_crops": tenant == TENANT}}
            )
            self.full[tenant] = self._key(tenant, self.operator, "admin")["key"]
        expiry = datetime.now(UTC) + timedelta(seconds=2)
        expiring = self._key(TENANT, self.operator, "admin", expires_at=expiry.isoformat())
        revoked = self._key(TENANT, self.operator, "admin")
        self._call("DELETE", f"/companies/{TENANT}/keys/{revoked['id']}")
        self.keys = {
            "no key": None,
            "wrong key": f"{revoked['key'][:20]}{'x' * 43}",
            "expired": expiring["key"],
            "revoked": revoked["key"],
            "another tenant's": self.full[OTHER],
        }
        self.lesser = {
            "recognise": self._key(TENANT, self.operator, "enrol")["key"],
            "enrol": self._key(TENANT, self.operator, "recognise")["key"],
            "admin": self._key(TENANT, self.operator, "recognise", "enrol")["key"],
        }
        self._call("PUT", f"/companies/{TENANT}/sectors/900", {"name": SECRET})
        self._call("PUT", f"/companies/{TENANT}/devices/901", {"name": SECRET, "sector": 900})
        key = self._key(TENANT, self.operator, "recognise", name=SECRET)
        person = {"id": "theirs", "name": SECRET, "metadata": {"of": SECRET}, "image": image}
        self._call("POST", "/update-samples", [person], {"X-API-Key": self.full[TENANT]})
        self._event, self._key_id = self._first_event(), key["id"]
        time.sleep(max(0.0, (expiry - datetime.now(UTC)).total_seconds() + 0.1))

    def key_of(self, operation: Guarded, credential: str) -> str | None:
        """The key that a stranger has for an operation."""
        if credential != "lesser right":
            return self.keys[credential]
        return self.full[TENANT] if operation.operator else self.lesser[operation.right]

    def request_of(self, operation: Guarded, key: str | None, absent: bool = False) -> dict[str, Any]:
        """What a stranger sends: everything that names something names what is the tenant's, or nobody's."""
        values = ABSENT if absent else self._values(operation)
        path = re.sub(r"{(\w+)}", lambda name: values[name[1]], operation.path)
        sent: dict[str, Any] = {"method": operation.method, "url": self.url + path, "allow_redirects": False}
        sent["headers"] = {} if key is None else {"Authorization": f"Bearer {key}"}
        if operation.method in ("POST", "PUT", "PATCH"):
            sent["json"] = self._body(operation, values)
        elif operation.path == "/face":
            sent["params"] = {"face_id": values["face_id"]}
        return sent

    def _values(self, operation: Guarded) -> dict[str, str]:
        values = {"id": "theirs", "number": "1", "company": TENANT, "code": "901", "face_id": "1", "file": "page.js"}
        if "/keys/" in operation.path:
            values["id"] = self._key_id
        if operation.path.startswith("/events/"):
            values["number"] = str(self._event)
        if "/sectors/" in operation.path:
            values["code"] = "900"
        return values

    def _body(self, operation: Guarded, values: dict[str, str]) -> Any:
        image = data_uri(self.photo)
        one = {"id": "probe", "name": "probe", "image": image}
        totem = {"requestNumber": 1, "appCode": 1, "typeImage": 2, "imageValidate": image}
        totem |= {"companyCode": int(values["company"]), "captureDeviceCode": 901}
        face = {"face_id": int(values["face_id"])}
        by_path: dict[str, Any] = {
            "/update-samples": [one],
            "/face-verification": {"image1": image, "image2": image},
            "/people/{id}": {"name": "changed"},
            "/people/{id}/photos": {"images": [image]},
            "/companies": {"company": "9999", "name": "new"},
            "/companies/{company}": {"name": "changed"},
            "/companies/{company}/sectors/{code}": {"name": "changed"},
            "/companies/{company}/devices/{code}": {"name": "changed", "sector": 900},
            "/companies/{company}/keys": {"name": "new", "rights": ["admin"]},
            "/": totem,
            "/companies/recognition": totem,
            "/api/train": one,
            "/api/clear": {"name": values["id"]},
            "/face/update": {**face, "unique_args": {}},
            "/face/delete": face,
            "/train": {"userName": values["id"], "stream": [image]},
            "/train/": {"userName": values["id"], "stream": [image]},
            "/recognize": {"userName": values["id"], "picture": image},
            "/recognize/": {"userName": values["id"], "picture": image},
        }
        return by_path.get(operation.path, {"image": image})

    def ask(self, operation: Guarded, key: str | None, absent: bool = False) -> Seen:
        """What a stranger is answered; the gallery of the other tenant is empty before."""
        requests.delete(f"{self.url}/clear-samples", headers={"X-API-Key": self.full[OTHER]}, timeout=30)
        if operation.path == "/live":
            return Seen(asyncio.run(_live(self.url, key)))
        return Seen.of(requests.request(**self.request_of(operation, key, absent), timeout=60))

    def state(self) -> str:
        """All that is the tenant's, as its operator sees it, without what other requests rightly change."""
        paths = [f"/companies/{TENANT}{rest}" for rest in ("", "/sectors", "/devices", "/keys")]
        parts = [requests.get(self.url + path, headers=self.operator, timeout=30).text for path in paths]
        people = requests.get(f"{self.url}/people", headers={"X-API-Key": self.full[TENANT]}, timeout=30).text
        return re.sub(r'"last_used_at":"[^"]*"', "", "".join([*parts, people]))

    def _first_event(self) -> int:
        headers = {"X-API-Key": self.full[TENANT]}
        deadline = time.monotonic() + 30
        while True:
            events = requests.get(f"{self.url}/events", headers=headers, timeout=30).json()["events"]
            if events:
                return int(events[0]["number"])
            if time.monotonic() > deadline:
                raise TimeoutError("No event of the enrolment was written.")
            time.sleep(0.1)

    def _key(
        self, tenant: str, headers: dict[str, str], *rights: str, name: str = "key", **more: str
    ) -> dict[str, str]:
        body = {"name": name, "rights": list(rights), **more}
        found: dict[str, str] = self._call("POST", f"/companies/{tenant}/keys", body, headers)
        return found

    def _call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        chosen = self.operator if headers is None else headers
        response = requests.request(method, self.url + path, json=body, headers=chosen, timeout=60)
        if response.status_code >= 400:
            raise ValueError(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return response.json()


def try_all(tenants: Tenants, operations: list[Guarded]) -> dict[tuple[str, str], Cell]:
    """Every operation with every credential."""
    cells = {}
    state = tenants.state()
    for operation in operations:
        for credential in CREDENTIALS:
            key = tenants.key_of(operation, credential)
            seen = tenants.ask(operation, key)
            stranger = credential == "another tenant's"
            absent = tenants.ask(operation, key, absent=True) if stranger and operation.named else None
            after = tenants.state()
            cells[operation.name, credential] = Cell(
                seen.status, judge(operation, credential, seen, absent, after != state)
            )
            state = after
    return cells


async def _live(url: str, key: str | None) -> int:
    """How a live session ends: with the status of its handshake or a close code; 200 for one that goes on."""
    headers = {} if key is None else {"X-API-Key": key}
    async with aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(f"{url}/live", headers=headers) as session:
                await session.send_str(json.dumps({}))
                await session.receive(timeout=2)
                return session.close_code or 200
        except aiohttp.WSServerHandshakeError as error:
            return error.status
        except TimeoutError:
            return 200


def prove(folder: Path, full: bool) -> Findings:
    """Try the whole table."""
    with install(folder / "strangers") as services:
        description = requests.get(f"{services.front.url}/openapi.json", timeout=30).json()
        operations, unknown = guarded(description)
        cells = try_all(Tenants(services.front.url), operations)
    bad = [f"{name} with {credential} {cell.fault}" for (name, credential), cell in cells.items() if cell.fault]
    count = f"{len(cells)} cells ({len(operations)} operations × {len(CREDENTIALS)} credentials)"
    lines = [f"| operation | right | {' | '.join(CREDENTIALS)} |", "|---" * (2 + len(CREDENTIALS)) + "|"]
    for operation in operations:
        row = [cells[operation.name, credential] for credential in CREDENTIALS]
        right = "operator" if operation.operator else operation.right
        seen = " | ".join(f"**{cell.seen}: {cell.fault}**" if cell.fault else str(cell.seen) for cell in row)
        lines.append(f"| `{operation.name}` | {right} | {seen} |")
    return Findings(
        [
            Promise.none_of("No stranger to a tenant is answered as its own", bad, count),
            Promise.none_of("Of every operation it is known whether it needs a key", unknown, "all operations"),
            Promise.none_of("No traceback is logged meanwhile", tracebacks(folder / "strangers"), "both logs"),
        ],
        "\n".join(lines),
    )
