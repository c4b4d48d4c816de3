"""Answers that are kept for a day, so that a request that is sent again does nothing twice.

An answer is written in the transaction of what it tells of: there are both or none, whatever ends the process. Of two
equal requests at once both work, and whoever comes second to the write finds the answer of the first.
"""

# ruff: noqa: S608 -- statements are put together from each other only

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from face_detection.gallery.people import Sample
from face_detection.gallery.sql.database import Connection, Connections
from shared.errors import AnswerDeleted, InvalidRequest, KeyReused

KEPT = 86_400 * 1_000_000
"""Microseconds."""

_MOST_BYTES = 4 << 20

FIND = "SELECT fingerprint, status, headers, body FROM answers WHERE key = :key AND at > CAST(:after AS BIGINT)"

PUT = """
    INSERT INTO answers (key, tenant, fingerprint, at, status, headers, body)
    VALUES (:key, :tenant, :fingerprint, :at, :status, :headers, :body)
"""

REMOVE = ("DELETE FROM answers_about WHERE answer = :key", "DELETE FROM answers WHERE key = :key")

ABOUT = """
    INSERT INTO answers_about (person, answer)
    SELECT people.key, :answer FROM people WHERE tenant = :tenant AND id = :id
    ON CONFLICT DO NOTHING
"""

_EMPTY = "UPDATE answers SET headers = NULL, body = NULL WHERE"
EMPTY_OF_PERSON = f"{_EMPTY} key IN (SELECT answer FROM answers_about WHERE person = :person)"
FORGET_PERSON = "DELETE FROM answers_about WHERE person = :person"
_FORGET = "DELETE FROM answers_about WHERE answer IN (SELECT key FROM answers WHERE"
CLEAR = (f"{_EMPTY} tenant = :tenant", f"{_FORGET} tenant = :tenant)")
"""What tells of people who are deleted goes with them. That there was an answer stays known: the request, sent again,
must not bring them back."""

DELETE_OF_TENANT = (f"{_FORGET} tenant = :tenant)", "DELETE FROM answers WHERE tenant = :tenant")
PURGE = (
    f"{_FORGET} at <= CAST(:before AS BIGINT))",
    "DELETE FROM answers WHERE at <= CAST(:before AS BIGINT)",
)


@dataclass(frozen=True)
class Answer:
    """An answer as it went out: HTTP status, the headers that belong to it, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Once(Generic[T]):
    """A request that is to be done once.

    Attributes:
        key: 32 bytes that stand for tenant, operation, and the key that the client chose.
        fingerprint: 32 bytes that stand for all that the client sent.
        answer: makes the answer of what was stored; one that tells of a failure is not kept. Called in the transaction,
            by any thread.
    """

    key: bytes
    fingerprint: bytes
    answer: Callable[[T], Answer]

    def after(self, convert: Callable[[S], T]) -> Once[S]:
        """The same where something else is known of what was stored, from which ``convert`` makes the rest."""
        return Once(self.key, self.fingerprint, lambda stored: self.answer(convert(stored)))


class Answered(Exception):
    """The request was done before; ``answer`` is what was answered then."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Answers:
    """The answers in the store's database. Blocks; raises as ``Store`` does."""

    def __init__(self, connections: Connections) -> None:
        """The answers of an open database, which whoever opened it closes."""
        self._connections = connections

    def find(self, once: Once[Any]) -> None:
        """Look whether a request was done before.

        Raises:
            Answered: it was.
            KeyReused: another request had the same key.
            AnswerDeleted: it was, but somebody of whom the answer told was deleted since.
        """
        with self._connections.reading() as connection:
            find(connection, once)

    def purge(self) -> None:
        """Delete what has been kept long enough."""
        with self._connections.writing() as connection:
            for statement in PURGE:
                connection.execute(statement, {"before": _now() - KEPT})


def find(connection: Connection, once: Once[Any]) -> None:
    """Do what ``Answers.find`` does, within the transaction that stores what the answer tells of."""
    rows = connection.execute(FIND, {"key": once.key, "after": _now() - KEPT}).fetchall()
    for fingerprint, status, headers, body in rows:
        if fingerprint != once.fingerprint:
            raise KeyReused("Another request had this Idempotency-Key.")
        if body is None:
            raise AnswerDeleted("What this request has stored was deleted since; send it with another Idempotency-Key.")
        raise Answered(Answer(status, json.loads(headers), body))


def keep(
    connection: Connection, tenant: str, once: Once[Sequence[Sample]], samples: Sequence[Sample], ids: Iterable[str]
) -> None:
    """Write the answer to a request, unless it tells of a failure.

    Args:
        connection: in the transaction that stores something, in which ``find`` has found nothing.
        tenant: whose request it is.
        once: the request.
        samples: what was stored, for the answer.
        ids: of the people of whom the answer tells.
    """
    answer = once.answer(samples)
    if answer.status >= 400:
        return
    if len(answer.body) > _MOST_BYTES:
        raise InvalidRequest("The answer would be too large to be kept for the Idempotency-Key: send less at once.")
    row = {"key": once.key, "tenant": tenant, "fingerprint": once.fingerprint, "at": _now(), "status": answer.status}
    for statement in REMOVE:  # one that was kept long enough
        connection.execute(statement, {"key": once.key})
    connection.execute(PUT, row | {"headers": json.dumps(dict(answer.headers)), "body": answer.body})
    connection.executemany(ABOUT, ({"answer": once.key, "tenant": tenant, "id": id} for id in ids))


def _now() -> int:
    return time.time_ns() // 1000
