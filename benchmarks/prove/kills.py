"""kill -9 of every process at random moments of a mixed load: nothing answered is lost, and nobody is mistaken."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import requests

from benchmarks.processes import children
from benchmarks.prove.installation import data_uri, documented, install, portraits, tracebacks
from benchmarks.prove.journal import Journal, State, state_of
from benchmarks.prove.promises import Findings, Promise
from deploy.servers import postgres
from deploy.servers.postgres import PostgresServer
from deploy.servers.waiting import wait_until
from deploy.services import Services
from shared.service_process import ServiceProcess

SHORT, FULL = 100, 1000
"""Kills, half of them with each database."""

SEED = 11
_CLIENTS = 4
_MOST_PEOPLE = 6
"""Of a client."""


class Client:
    """Enrols, changes, deletes and recognises people of its own, and remembers what it was answered.

    Args:
        name: what its ids begin with.
        url: of the front.
        journal: shared by all.
        allowed: statuses that are documented, by method and pattern of the path.
    """

    def __init__(self, name: str, url: str, journal: Journal, allowed: dict[tuple[str, str], set[int]]) -> None:
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._name, self._url, self._journal, self._allowed = name, url, journal, allowed
        self._chance = random.Random(f"{SEED}:{name}")
        self._number = 0
        self._photos = portraits()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        with requests.Session() as session:
            while not stop.is_set():
                mine = self._journal.known(f"{self._name}-")
                kinds: list[Callable[[requests.Session, dict[str, State]], None]] = [self._enrol, self._recognise]
                if mine:
                    kinds += [self._patch, self._replace, self._add, self._delete, self._recognise]
                if len(mine) > _MOST_PEOPLE:
                    kinds = [self._delete]
                self._chance.choice(kinds)(session, mine)

    def _enrol(self, session: requests.Session, mine: dict[str, State]) -> None:
        who = self._chance.choice(list(self._photos))
        ids = [self._fresh(who), self._fresh(who)]
        self._write(session, "/update-samples", {id: State(0, 0, 1) for id in ids}, {}, self._batch(ids, who, 0))

    def _replace(self, session: requests.Session, mine: dict[str, State]) -> None:
        id, before = self._chance.choice(list(mine.items()))
        version = before.version + 1
        after = {id: State(version, version, 1)}
        self._write(session, "/update-samples", after, mine, self._batch([id], _who(id), version))

    def _batch(self, ids: list[str], who: str, version: int) -> list[dict[str, Any]]:
        image = data_uri(self._chance.choice(self._photos[who]))
        common = {"name": f"{who} v{version}", "metadata": {"v": version}, "image": image}
        return [{"id": id, **common} for id in ids]

    def _patch(self, session: requests.Session, mine: dict[str, State]) -> None:
        id, before = self._chance.choice(list(mine.items()))
        version = before.version + 1
        body = {"name": f"{_who(id)} v{version}", "metadata": {"v": version}}
        self._write(session, f"/people/{id}", {id: State(version, version, before.photos)}, mine, body, "PATCH")

    def _add(self, session: requests.Session, mine: dict[str, State]) -> None:
        id, before = self._chance.choice(list(mine.items()))
        image = data_uri(self._chance.choice(self._photos[_who(id)]))
        after = {id: State(before.version, before.metadata, before.photos + 1)}
        self._write(session, f"/people/{id}/photos", after, mine, {"images": [image]})

    def _delete(self, session: requests.Session, mine: dict[str, State]) -> None:
        id = self._chance.choice(list(mine))
        self._write(session, f"/people/{id}", {id: None}, mine, None, "DELETE")

    def _recognise(self, session: requests.Session, mine: dict[str, State]) -> None:
        who = self._chance.choice(list(self._photos))
        since = time.monotonic()
        response = self._send(session, "POST", "/face-recognition", {"image": data_uri(self._photos[who][-1])})
        if response is not None and response.status_code == 200:
            ids = [face["id"] for face in response.json() if face["id"]]
            self.faults += self._journal.check_names(who, ids, since)

    def _write(
        self,
        session: requests.Session,
        path: str,
        after: dict[str, State | None] | dict[str, State],
        before: dict[str, State],
        body: Any,
        method: str = "POST",
    ) -> None:
        wanted: dict[str, State | None] = dict(after)
        self._journal.begin(wanted)
        response = self._send(session, method, path, body)
        if response is None:
            return
        done = response.status_code == 200
        if done and path == "/update-samples":
            done = response.json()["fail"] == []
        if done:
            self._journal.answered(wanted)
        elif response.status_code < 500 or response.status_code == 504:  # these say that nothing was stored
            self._journal.answered({id: before.get(id) for id in wanted})

    def _send(self, session: requests.Session, method: str, path: str, body: Any) -> requests.Response | None:
        """The answer; None when there was none."""
        pattern = path if path.count("/") == 1 else "/people/{id}" + ("/photos" if path.endswith("/photos") else "")
        try:
            response = session.request(method, self._url + path, json=body, timeout=90)
        except requests.RequestException:
            time.sleep(0.05)
            return None
        self.statuses[response.status_code] += 1
        if response.status_code not in self._allowed[method, pattern]:
            self.faults.append(f"undocumented: {method} {pattern} {response.status_code} {response.text[:150]}")
        if response.status_code >= 429:
            time.sleep(0.05)
        return response

    def _fresh(self, who: str) -> str:
        self._number += 1
        return f"{self._name}-{self._number}-{who}"


def _who(id: str) -> str:
    return id.rpartition("-")[2]


def people(url: str) -> dict[str, dict[str, Any]]:
    """Everybody who is enrolled, by id."""
    found: dict[str, dict[str, Any]] = {}
    after: str | None = ""
    while after is not None:
        response = requests.get(f"{url}/people", {"limit": 1000, "after": after}, timeout=60)
        response.raise_for_status()
        page = response.json()
        found |= {entry["id"]: entry for entry in page["people"]}
        after = page["next"]
    return found


class Trial:
    """An installation under load of which one process after another is killed.

    Args:
        services: running.
        database: its server; None for SQLite.
    """

    def __init__(self, services: Services, database: PostgresServer | None, name: str) -> None:
        self.kills: Counter[str] = Counter()
        self.faults: list[str] = []
        self.journal = Journal()
        self._services, self._database = services, database
        self._chance = random.Random(f"{SEED}:{name}")
        self.url = services.front.url
        allowed = documented(self.url)
        self.clients = [Client(f"c{number}", self.url, self.journal, allowed) for number in range(_CLIENTS)]
        self._targets = {"front": 3, "front worker": 4, "extraction": 3} | ({"database": 4} if database else {})

    def round(self) -> None:
        """Load, a kill somewhere in it, load while it comes back, and a look at everything in silence."""
        stop = threading.Event()
        threads = [threading.Thread(target=client.run, args=(stop,)) for client in self.clients]
        for thread in threads:
            thread.start()
        time.sleep(self._chance.uniform(0.1, 0.9))
        (target,) = self._chance.choices(list(self._targets), list(self._targets.values()))
        try:
            self._kill(target)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.kills[target] += 1
        self._look(f"after kill {self.kills.total()} ({target})")

    def _kill(self, target: str) -> None:
        match target:
            case "database":
                assert self._database is not None
                self._database.kill()
                self._database.start()
            case "front worker":
                workers = children(self._services.front.pid)
                os.kill(self._chance.choice(workers), signal.SIGKILL)
            case "front":
                _restart(self._services.front)
            case "extraction":
                _restart(self._services.extraction)
        self._services.front.wait_until_ready(60)

    def _look(self, when: str) -> None:
        """Compare what is stored with what was answered, and what is found with what is stored."""
        listed = people(self.url)
        faults = self.journal.check({id: state_of(entry) for id, entry in listed.items()})
        photos = sum(entry["photos"] for entry in listed.values())

        def samples() -> int:
            ready = requests.get(f"{self.url}/readyz", timeout=30)
            return int(ready.json()["samples"]) if ready.status_code == 200 else -1

        try:
            wait_until(lambda: samples() == photos, lambda: f"index has {samples()} of {photos} samples", 10)
        except AssertionError as error:
            faults.append(f"index differs: {error}")
        for who in self._chance.sample(sorted({_who(id) for id in listed}), min(2, len(listed))):
            image = data_uri(portraits()[who][0])
            answer = requests.post(f"{self.url}/face-recognition", json={"image": image}, timeout=60)
            ids = [face["id"] for face in answer.json()] if answer.status_code == 200 else []
            if not ids or any(id not in listed or _who(id) != who for id in ids):
                faults.append(f"index differs: {who} is enrolled and is answered {answer.status_code} {ids}")
        self.faults += [f"{fault} ({when})" for fault in faults]


def _restart(service: ServiceProcess) -> None:
    os.killpg(service.pid, signal.SIGKILL)
    service.stop()
    service.start()
    service.wait_until_ready(120)


def _prove_one(name: str, folder: Path, kills: int, database: PostgresServer | None) -> Findings:
    """Kills with one database."""
    settings = {"FRONT_WORKERS": "2"} | ({"DATABASE": database.database("proved")} if database else {})
    with install(folder, **settings) as services:
        trial = Trial(services, database, name)
        while trial.kills.total() < kills:
            trial.round()
    faults = trial.faults + [fault for client in trial.clients for fault in client.faults]
    if database is None:
        with closing(sqlite3.connect(folder / "gallery.db")) as connection:
            damage = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        faults += [f"index differs: {line}" for line in damage if line != "ok"]
    killed = ", ".join(f"{target} {count}" for target, count in sorted(trial.kills.items()))
    of = f"{trial.journal.writes:,} answered writes, {trial.kills.total()} kills ({killed})"
    statuses = sum((client.statuses for client in trial.clients), Counter())
    promises = [
        Promise.none_of(f"{name}: {text}", [fault for fault in faults if fault.startswith(kind)], of)
        for text, kind in (
            ("no answered write is lost", "lost"),
            ("nobody is half-written", "half-written"),
            ("nobody deleted is there or found", "deleted"),
            ("nobody gets another's name", "wrong name"),
            ("the index equals the database after each kill", "index differs"),
            ("only documented statuses", "undocumented"),
        )
    ]
    kinds = ("lost", "half-written", "deleted", "wrong name", "index differs", "undocumented")
    promises.append(Promise.none_of(f"{name}: nothing else", [one for one in faults if not one.startswith(kinds)], of))
    promises.append(Promise.none_of(f"{name}: no traceback in either log", tracebacks(folder), of))
    return Findings(promises, f"{name}: statuses {json.dumps(dict(sorted(statuses.items())))}.\n")


def prove(folder: Path, full: bool) -> Findings:
    """Kills on SQLite, then on PostgreSQL."""
    kills = (FULL if full else SHORT) // 2
    findings = _prove_one("SQLite", folder / "kills-sqlite", kills, None)
    programs = postgres.programs()
    if programs is None:
        findings.promises.append(Promise("PostgreSQL: the same", postgres.MISSING, None))
        return findings
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(programs))
        others = _prove_one("PostgreSQL", folder / "kills-postgres", kills, server)
    return Findings(findings.promises + others.promises, findings.notes + "\n" + others.notes)
