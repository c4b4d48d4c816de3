"""The proof's own judgement: what is wrong is seen, on answers that were doctored."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import Load
from benchmarks.prove import bad_input, overload
from benchmarks.prove.__main__ import SECTIONS
from benchmarks.prove.bad_input import Outcome
from benchmarks.prove.installation import environment, tracebacks
from benchmarks.prove.journal import Journal, State, state_of
from benchmarks.prove.mutation import DOORS, case
from benchmarks.prove.promises import Findings, Promise, table
from benchmarks.prove.strangers import BY_ITSELF, OPEN, SECRET, Guarded, Seen, guarded, judge
from deploy.services import ROOT
from face_detection.api.openapi import describe
from face_detection.app import OPERATIONS

V0, V1 = State(0, 0, 1), State(1, 1, 1)


@pytest.fixture
def journal() -> Journal:
    """Two people who were answered as stored, one of them changed since without an answer, and one deleted."""
    journal = Journal()
    for change in ({"a-1-ann": V0, "a-2-ann": V0}, {"b-1-bob": V0}, {"b-1-bob": None}):
        journal.begin(change)
        journal.answered(change)
    journal.begin({"a-1-ann": V1})
    return journal


@pytest.mark.parametrize("state", [V0, V1])
def test_what_may_be_is_no_fault(journal: Journal, state: State) -> None:
    assert journal.check({"a-1-ann": state, "a-2-ann": V0}) == []
    assert journal.known("a-") == {"a-1-ann": state, "a-2-ann": V0}, "what was seen is certain from then on"


@pytest.mark.parametrize(
    "listed, kind",
    [
        ({"a-1-ann": V0}, "lost: a-2-ann"),
        ({"a-1-ann": V0, "a-2-ann": State(7, 7, 1)}, "lost: a-2-ann is"),
        ({"a-1-ann": State(1, 0, 1), "a-2-ann": V0}, "half-written: a-1-ann"),
        ({"a-1-ann": V0, "a-2-ann": V0, "b-1-bob": V0}, "deleted and there: b-1-bob"),
        ({"a-1-ann": V0, "a-2-ann": V0, "x": V0}, "x is listed and was never sent"),
    ],
)
def test_what_may_not_be_is_named(journal: Journal, listed: dict[str, State], kind: str) -> None:
    (fault,) = journal.check(listed)
    assert fault.startswith(kind)


def test_a_batch_that_is_there_in_part_is_half_written() -> None:
    journal = Journal()
    journal.begin({"a": V0, "b": V0})
    assert journal.check({"a": V0}) == ["half-written: of a, b, sent as one, only some are there"]


def test_wrong_names_and_deleted_people_in_answers(journal: Journal) -> None:
    assert journal.check_names("ann", ["a-1-ann"], time.monotonic()) == []
    assert journal.check_names("ann", ["a-1-bob"], time.monotonic()) == ["wrong name: ann was called a-1-bob"]
    assert journal.check_names("bob", ["b-1-bob"], time.monotonic()) == ["deleted and found: b-1-bob"]
    assert journal.check_names("bob", ["b-1-bob"], time.monotonic() - 60) == [], "it was asked before the deletion"


def test_states_are_read_from_lists_of_people() -> None:
    assert state_of({"name": "ann v3", "metadata": {"v": 3}, "photos": 2}) == State(3, 3, 2)
    assert state_of({"name": "ann v3", "metadata": None, "photos": 2}) == State(3, -1, 2)


PATCH = Guarded("PATCH", "/people/{id}", "enrol", False)
LIST = Guarded("GET", "/people", "enrol", False)
CREATE = Guarded("POST", "/companies", "admin", True)


@pytest.mark.parametrize(
    "operation, credential, seen, absent, changed, right",
    [
        (PATCH, "no key", Seen(401), None, False, True),
        (PATCH, "no key", Seen(200), None, False, False),
        (PATCH, "expired", Seen(403), None, False, False),
        (PATCH, "lesser right", Seen(403), None, False, True),
        (PATCH, "lesser right", Seen(401), None, False, False),
        (PATCH, "another tenant's", Seen(404, "x"), Seen(404, "x"), False, True),
        (PATCH, "another tenant's", Seen(403, "x"), Seen(404, "x"), False, False),
        (PATCH, "another tenant's", Seen(404, "theirs"), Seen(404, "x"), False, False),
        (PATCH, "another tenant's", Seen(404, "x"), Seen(404, "x"), True, False),
        (LIST, "another tenant's", Seen(200, "[]"), None, False, True),
        (LIST, "another tenant's", Seen(200, SECRET), None, False, False),
        (CREATE, "another tenant's", Seen(403), None, False, True),
        (CREATE, "another tenant's", Seen(200), None, False, False),
    ],
)
def test_a_stranger_who_is_let_in_is_seen(
    operation: Guarded, credential: str, seen: Seen, absent: Seen | None, changed: bool, right: bool
) -> None:
    assert (judge(operation, credential, seen, absent, changed) == "") == right


def test_every_operation_is_tried_or_known_as_open() -> None:
    description = json.loads(json.dumps(describe(OPERATIONS, "1")))
    operations, unknown = guarded(description)
    assert unknown == []
    names = {operation.name for operation in operations}
    assert len(names) > 50 and not names & OPEN and set(BY_ITSELF) <= names
    del description["paths"]["/people"]["get"]["security"]
    assert guarded(description)[1] == ["GET /people"], "an operation that forgets its key is noticed"


def test_cases_are_the_same_every_time_and_meet_every_door() -> None:
    cases = [case(1, number) for number in range(2000)]
    assert cases == [case(1, number) for number in range(2000)] and cases[:50] != [case(2, n) for n in range(50)]
    assert {made.door for made in cases} == {door.path for door in DOORS}
    assert all(made.encode("127.0.0.1", "key").count(b"\r\n\r\n") >= 1 for made in cases)


def test_the_doors_take_what_operations_take() -> None:
    taking = {(one.method, one.path) for one in OPERATIONS if one.body is not None or one.stream_types}
    patterns = {"p1": "{id}", "1042": "{company}", "7": "{code}", "31": "{code}"}
    tried = {(door.method, "/".join(patterns.get(part, part) for part in door.path.split("/"))) for door in DOORS}
    of_galleries = {("POST", "/clear-samples"), ("POST", "/collections"), ("POST", "/collections/{name}/people")}
    assert taking - tried <= {*of_galleries, ("POST", "/train"), ("POST", "/recognize/")}


def test_answers_that_may_not_be_are_faults() -> None:
    outcome = Outcome()
    for status in (200, 400, 503, 504, 500, 502, None):
        outcome.add(case(1, 1), status, 0.1)
    outcome.add(case(1, 2), 200, bad_input.REQUEST_TIMEOUT + bad_input.SLACK + 1)
    assert len(outcome.faults) == 3 and len(outcome.late) == 1
    assert all(fault.startswith("case 11:1 ") for fault in outcome.faults)


def run(rate: float, seconds: float = 1, **more: int) -> Load:
    statuses = Counter({200: 100, 429: 50}) + Counter({int(name[1:]): count for name, count in more.items()})
    return Load(rate, np.full(100, seconds), statuses)


@pytest.mark.parametrize(
    "load, memory, broken",
    [
        (run(95), [100.0] * 8, []),
        (run(80), [100.0] * 8, [0]),
        (run(95, s500=1), [100.0] * 8, [1]),
        (run(95, seconds=5), [100.0] * 8, [2]),
        (run(95), [*[100.0] * 6, 110.0, 110.0], [3]),
    ],
)
def test_overload_is_judged(load: Load, memory: list[float], broken: list[int]) -> None:
    promises = overload.judge(100, load, memory, 2)
    assert [number for number, promise in enumerate(promises) if not promise.kept] == broken


def test_tracebacks_are_found_in_logs(tmp_path: Path) -> None:
    trace = "Traceback (most recent call last):\n  File x\nValueError: no"
    lines = [json.dumps({"level": "ERROR", "exception": trace}), json.dumps({"level": "INFO", "message": "fine"})]
    lines.append(json.dumps({"level": "WARNING", "message": "request failed: the disk is full", "exception": trace}))
    (tmp_path / "front.log").write_text("\n".join(lines))
    assert tracebacks(tmp_path) == ["front.log: ValueError: no"]


def test_the_report_names_what_is_broken() -> None:
    promises = [
        Promise("a", "1", True),
        Promise.none_of("b", ["x", "x", "y"], "9 things"),
        Promise("c", "no root", None),
    ]
    assert Findings(promises).broken and not Findings([promises[0], promises[2]]).broken
    assert table(promises).splitlines()[2:] == [
        "| a | 1 | kept |",
        "| b | 3 of 9 things; x (2 times); y | **BROKEN** |",
        "| c | no root | not tried |",
    ]


def test_sections_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "proof.md").read_text()
    assert all(f"`{name}`" in text for name in SECTIONS)


def test_settings_of_this_process_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "sface")
    assert "MODEL" not in environment() and environment(MODEL="dlib")["MODEL"] == "dlib"
