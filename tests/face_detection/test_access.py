"""Keys, rights, limits, and who may come without a key."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from face_detection.access import Access, Caller, demand, demand_operator
from face_detection.gallery import open_gallery
from face_detection.gallery.directory import Right, StoredKey, TenantSettings
from face_detection.gallery.sql.directory import Directory
from shared.errors import Conflict, Forbidden, InvalidRequest, NotFound, RateLimited, Unauthorized

ALL = frozenset(Right)
ANONYMOUS = frozenset({Right.RECOGNISE, Right.ENROL})


@pytest.fixture
def directory() -> Iterator[Directory]:
    gallery = open_gallery(":memory:")
    for company in ("1042", "77"):
        gallery.directory.create_tenant(company, company, TenantSettings())
    yield gallery.directory
    gallery.store.close()


@pytest.fixture
def access(directory: Directory) -> Access:
    return Access(directory, allow_anonymous=False)


@pytest.fixture
def lenient(directory: Directory) -> Access:
    return Access(directory, allow_anonymous=True)


def refusal(access: Access, text: str | None) -> str:
    with pytest.raises(Unauthorized) as caught:
        access.authenticate(text)
    return caught.value.message


def in_company(access: Access, text: str | None, company: str) -> Caller:
    return access.in_company(access.authenticate(text), company)


def test_a_key_says_whom_a_request_is_from(access: Access) -> None:
    key, text = access.create_key("1042", "door", [Right.RECOGNISE], max_samples=5)
    assert re.fullmatch(rf"fr_{key.id}_[A-Za-z0-9_-]{{43}}", text)
    assert access.authenticate(text) == Caller("1042", frozenset({Right.RECOGNISE}), key.id, 5, operator=False)


def test_admin_includes_the_other_rights_which_are_independent(access: Access) -> None:
    _, text = access.create_key("1042", "chief", [Right.ADMIN])
    assert access.authenticate(text).rights == ALL
    _, text = access.create_key("1042", "desk", [Right.ENROL])
    caller = access.authenticate(text)
    demand(caller, Right.ENROL)
    for right in (Right.RECOGNISE, Right.ADMIN):
        with pytest.raises(Forbidden, match=right):
            demand(caller, right)


def test_the_operator_is_an_administrator_of_the_default_tenant(access: Access) -> None:
    for tenant, rights, operator in [
        ("default", [Right.ADMIN], True),
        ("default", [Right.RECOGNISE, Right.ENROL], False),
        ("1042", [Right.ADMIN], False),
    ]:
        caller = access.authenticate(access.create_key(tenant, "name", rights)[1])
        assert caller.operator == operator
        if operator:
            demand_operator(caller)
        else:
            with pytest.raises(Forbidden):
                demand_operator(caller)


def test_neither_secret_nor_text_is_kept(access: Access, directory: Directory) -> None:
    key, text = access.create_key("1042", "door", [Right.RECOGNISE])
    stored = directory.find_key(key.id)
    assert stored is not None
    assert text.split("_", 2)[2] not in repr(asdict(stored)) + repr((stored.salt, stored.hash))
    other = directory.find_key(access.create_key("1042", "door", [Right.RECOGNISE])[0].id)
    assert other is not None and other.salt != stored.salt


def test_every_invalid_key_is_refused_alike(access: Access, lenient: Access, directory: Directory) -> None:
    key, good = access.create_key("1042", "door", [Right.RECOGNISE])
    expired, expired_text = access.create_key("1042", "old", [Right.ADMIN], expires_at=soon())
    revoked, revoked_text = access.create_key("1042", "lost", [Right.ADMIN])
    directory.revoke_key("1042", revoked.id)
    time.sleep(0.06)
    wrong_secret = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    unknown = good.replace(key.id, "0" * 16)
    malformed = [
        "",
        " ",
        "fr__",
        good + "A",
        good[:-1],
        good.upper(),
        f" {good}",
        f"{good}\n",
        "fr_ü",
        "\udcff",
        "é" * 9,
    ]
    for text in (expired_text, revoked_text, wrong_secret, unknown, *malformed):
        for one in (access, lenient):
            assert refusal(one, text) == "The API key is not valid.", text
            with pytest.raises(Unauthorized, match="The API key is not valid."):
                in_company(one, text, "1042")
    assert access.authenticate(good).key == key.id


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=50)


def test_a_wrong_secret_costs_the_same_as_an_unknown_id(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    _, good = access.create_key("1042", "door", [Right.RECOGNISE])
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return False

    monkeypatch.setattr("face_detection.access.hmac.compare_digest", compare)
    refusal(access, good)
    refusal(access, f"fr_{'0' * 16}_{good[20:]}")
    assert compared == [(32, 32), (32, 32)]


def test_revoking_is_effective_at_once_in_every_process(directory: Directory) -> None:
    one, other = Access(directory, False), Access(directory, False)
    key, text = one.create_key("1042", "door", [Right.RECOGNISE])
    assert other.authenticate(text).key == key.id
    directory.revoke_key("1042", key.id)
    refusal(other, text)
    refusal(one, text)


def test_rotating_keeps_all_but_the_secret(access: Access, directory: Directory) -> None:
    key, former = access.create_key("1042", "door", [Right.RECOGNISE], requests_per_minute=9, max_samples=3)
    rotated, text = access.rotate_key("1042", key.id)
    assert rotated == key and text != former and text.startswith(f"fr_{key.id}_")
    refusal(access, former)
    assert access.authenticate(text).key == key.id
    with pytest.raises(NotFound):
        access.rotate_key("77", key.id)
    directory.revoke_key("1042", key.id)
    with pytest.raises(Conflict):
        access.rotate_key("1042", key.id)


def test_keys_that_cannot_be_made(access: Access, directory: Directory) -> None:
    with pytest.raises(NotFound):
        access.create_key("nobody", "door", [Right.RECOGNISE])
    with pytest.raises(InvalidRequest):
        access.create_key("1042", "door", [])
    with pytest.raises(InvalidRequest, match="passed"):
        access.create_key("1042", "door", [Right.RECOGNISE], expires_at=datetime.now(UTC))
    assert not directory.any_key()


def test_without_any_key_everybody_is_the_operator(access: Access, lenient: Access) -> None:
    for one in (access, lenient):
        assert one.authenticate(None) == Caller("default", ALL, operator=True)
        assert in_company(one, None, "77") == Caller("77", ALL, operator=True)
        assert not one.protected()
        with pytest.raises(NotFound):
            in_company(one, None, "nobody")
        refusal(one, "fr_wrong")


def test_from_the_first_key_on_a_key_is_needed(access: Access, directory: Directory) -> None:
    key, _ = access.create_key("1042", "door", [Right.RECOGNISE])
    assert access.protected()
    refusal(access, None)
    for company in ("1042", "77", "nobody", "default"):
        with pytest.raises(Unauthorized, match="needs an API key"):
            in_company(access, None, company)
    directory.revoke_key("1042", key.id)
    refusal(access, None)
    assert access.protected()


def test_anonymous_callers_beside_keys_administer_nothing(lenient: Access) -> None:
    lenient.create_key("1042", "door", [Right.RECOGNISE])
    lenient.create_key("default", "operator", [Right.ADMIN])
    caller = lenient.authenticate(None)
    assert caller == Caller("default", ANONYMOUS)
    with pytest.raises(Unauthorized, match="needs an API key"):
        demand(caller, Right.ADMIN)
    with pytest.raises(Unauthorized, match="needs an API key"):
        demand_operator(caller)


def test_anonymous_callers_reach_companies_without_keys_only(lenient: Access) -> None:
    lenient.create_key("1042", "door", [Right.RECOGNISE])
    assert in_company(lenient, None, "77") == Caller("77", ANONYMOUS)
    for company in ("1042", "nobody", ""):
        with pytest.raises(Unauthorized, match="needs an API key"):
            in_company(lenient, None, company)


def test_a_key_reaches_its_own_company_and_learns_of_no_other(access: Access) -> None:
    key, text = access.create_key("1042", "chief", [Right.ADMIN])
    assert in_company(access, text, "1042").key == key.id
    messages = set()
    for company in ("77", "default", "nobody", "", "'; DROP TABLE keys--"):
        with pytest.raises(NotFound) as caught:
            in_company(access, text, company)
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_an_operator_reaches_every_company(access: Access) -> None:
    key, text = access.create_key("default", "operator", [Right.ADMIN], max_samples=9)
    assert in_company(access, text, "77") == Caller("77", ALL, key.id, 9, operator=True)
    with pytest.raises(NotFound):
        in_company(access, text, "nobody")


def test_a_limited_key_waits_for_its_minute(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    _, text = access.create_key("1042", "door", [Right.RECOGNISE], requests_per_minute=2)
    _, other = access.create_key("1042", "door", [Right.RECOGNISE], requests_per_minute=2)
    access.authenticate(text)
    now += 40
    in_company(access, text, "1042")
    now += 0.5
    for authenticate in (access.authenticate, lambda text: in_company(access, text, "1042")):
        with pytest.raises(RateLimited) as caught:
            authenticate(text)
        assert (caught.value.retry_after, "2 requests" in caught.value.message) == (20, True)
    access.authenticate(other)
    now += 19.4
    with pytest.raises(RateLimited) as caught:
        access.authenticate(text)
    assert caught.value.retry_after == 1
    now += 0.2
    access.authenticate(text)
    with pytest.raises(RateLimited) as caught:
        access.authenticate(text)
    assert caught.value.retry_after == 40


def test_failed_attempts_do_not_use_up_a_limit(access: Access) -> None:
    key, text = access.create_key("1042", "door", [Right.RECOGNISE], requests_per_minute=1)
    for _ in range(3):
        refusal(access, text[:20] + "A" * 43)
    access.authenticate(text)


def test_each_process_counts_by_itself(directory: Directory) -> None:
    one, other = Access(directory, False), Access(directory, False)
    _, text = one.create_key("1042", "door", [Right.RECOGNISE], requests_per_minute=1)
    one.authenticate(text)
    other.authenticate(text)
    with pytest.raises(RateLimited):
        one.authenticate(text)


def test_a_key_that_never_expires_beside_one_that_will(access: Access, directory: Directory) -> None:
    key, text = access.create_key("1042", "door", [Right.RECOGNISE], expires_at=datetime.now(UTC) + timedelta(days=1))
    assert access.authenticate(text).key == key.id
    stored = directory.find_key(key.id)
    assert stored is not None
    past = replace(stored.key, id="f" * 16, expires_at=datetime.now(UTC) - timedelta(days=1))
    directory.add_key(StoredKey(past, stored.salt, stored.hash))
    refusal(access, text.replace(key.id, "f" * 16))
