"""python -m face_detection export, python -m face_detection import; their file is described in docs/cli.md

It is JSON Lines: the first line names the format, each further one is a person with all samples, and the last one
counts them and has the SHA-256 of all bytes before it. A file is written beside its place and moved there when it is
complete, and read twice: once to check everything, and again to take people from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TypeVar

import click
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from face_detection.cli.console import followed, remark
from face_detection.cli.service import connected, opened_local, refusals
from face_detection.cli.service.protocol import Record, Service, check_id, check_name, is_known
from face_detection.gallery.directory import DEFAULT_TENANT
from face_detection.gallery.people import NewSample, Vector
from face_detection.naming import MAX_ID, MAX_NAME
from shared.errors import InvalidRequest, SpaceMismatch

if TYPE_CHECKING:
    from face_detection.cli.service.local import LocalService

_BATCH_PEOPLE = 200
_BATCH_SAMPLES = 2000

_FORMAT = "face-recognition-people"
_VERSION = 2
"""The first did not have the times of people."""

_MOST_LINE_BYTES = 256 << 20
_FLOAT32 = np.dtype("<f4")


@dataclass
class Summary:
    """What a file has: people, samples, and how many of these are of each embedding space."""

    people: int = 0
    samples: int = 0
    spaces: Counter[str] = field(default_factory=Counter)

    def count(self, record: Record) -> None:
        """Count a person."""
        self.people += 1
        self.samples += len(record.samples)
        self.spaces.update(space for space, _ in record.samples)


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Head(_Line):
    format: Literal["face-recognition-people"]
    version: int
    created_at: str


class _Sample(_Line):
    space: Annotated[str, Field(min_length=1, max_length=256)]
    vector: str


class _Person(_Line):
    id: Annotated[str, Field(max_length=MAX_ID)]
    name: Annotated[str, Field(max_length=MAX_NAME)]
    metadata: Any
    action: Annotated[str, Field(max_length=256)] | None
    created_at: str | None = None
    updated_at: str | None = None
    samples: Annotated[list[_Sample], Field(min_length=1)]


class _Foot(_Line):
    people: int
    samples: int
    sha256: str


_AnyLine = TypeVar("_AnyLine", bound=_Line)
_FOOT = b'{"people":'


@click.command(
    "export",
    epilog="""\b
Examples:
  python -m face_detection export people.jsonl
  python -m face_detection export people.jsonl --local --company 1042
""",
)
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@connected()
def export_people(service: Service, file: Path) -> None:
    """Write everybody into one FILE: ids, names, metadata and embeddings, no pictures.

    The file identifies people: keep it as safe as the database. A service gives out only the embeddings of the model
    that it uses; with --local those of all models are exported.
    """
    missing = 0

    def records() -> Iterator[Record]:
        nonlocal missing
        for record in followed(service.export(), None, "people"):
            missing += record.missing
            if record.samples:
                yield record

    summary = write_file(file, records())
    click.echo(f"Exported {summary.people} people with {summary.samples} photos.")
    if missing:
        raise click.ClickException(f"{missing} photos are of other models, which only export --local can reach.")


@click.command(
    "import",
    epilog="""\b
Examples:
  python -m face_detection import people.jsonl --local
  python -m face_detection import people.jsonl --local --replace
""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--local", is_flag=True, help="Must be given: see above.")
@click.option("--company", default=DEFAULT_TENANT, show_default=True, metavar="CODE", help="Whose people they become.")
@click.option("--replace", is_flag=True, help="Give people who are there already what the file has, instead of theirs.")
@click.option(
    "--space",
    type=click.Choice(["current", "any"]),
    default="current",
    show_default=True,
    help="Take embeddings of the model in use only, or of any; the others are not found while their model is not used.",
)
def import_people(file: Path, local: bool, company: str, replace: bool, space: str) -> None:
    """Read people from a FILE that export has written.

    They are written into the database that DATABASE names, hence --local: no service takes embeddings. One that runs on
    the same database finds them at its next request. The whole file is checked before anything is written. People who
    are there already stay as they are, unless --replace is given; so after an interruption the same command goes on.
    """
    if not local:
        raise click.UsageError("A service takes no embeddings: add --local to write into the database itself.")
    written = kept = 0
    with refusals():
        summary = check_file(file)
        with opened_local(company) as service:
            if space == "current":
                _check_space(service, summary)
            for batch in _batches(followed(read_file(file), summary.people, "people")):
                wanted = batch if replace else [one for one in batch if not is_known(service, one.id)]
                if wanted:
                    service.store(wanted)
                written, kept = written + len(wanted), kept + len(batch) - len(wanted)
    click.echo(f"Imported {written} people.")
    if kept:
        remark(f"{kept} people were there already and stayed as they are (--replace gives them what the file has).")


def _check_space(service: LocalService, summary: Summary) -> None:
    if not summary.spaces:
        return
    service.prepare()
    current = service.space()
    others = sorted(set(summary.spaces) - {current})
    if others:
        count = sum(summary.spaces[space] for space in others)
        raise SpaceMismatch(
            f"{count} of {summary.samples} photos in the file are of another model than the one in use: "
            f"{', '.join(others)} instead of {current}. Use that model (MODEL), or import them to wait for it: "
            "--space any."
        )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    samples = 0
    for record in records:
        batch.append(record)
        samples += len(record.samples)
        if len(batch) >= _BATCH_PEOPLE or samples >= _BATCH_SAMPLES:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def write_file(path: Path, records: Iterable[Record]) -> Summary:
    """Write people with samples into a file that only its owner can read; replaces what is there.

    Raises:
        InvalidRequest: it cannot be written.
        ServiceError: whatever ``records`` raises; there is no new file then.
    """
    part: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            summary = _write(file, records)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return summary


def check_file(path: Path) -> Summary:
    """Read a whole file.

    Raises:
        InvalidRequest: it is none of these files, of a later version, damaged, or not complete.
    """
    summary = Summary()
    for record in read_file(path):
        summary.count(record)
    return summary


def read_file(path: Path) -> Iterator[Record]:
    """The people of a file.

    Raises:
        InvalidRequest: see ``check_file``; at the place where it is found out.
    """
    digest, summary, number = hashlib.sha256(), Summary(), 1
    ids: set[str] = set()
    try:
        with path.open("rb") as file:
            _check_head(file, digest)
            while line := file.readline(_MOST_LINE_BYTES):
                number += 1
                if not line.endswith(b"\n"):
                    raise InvalidRequest("It is cut off, or too long.")
                if line.startswith(_FOOT):
                    _check_foot(_parsed(_Foot, line), summary, digest.hexdigest())
                    if file.read(1):
                        raise InvalidRequest("Something follows what must be the last line.")
                    return
                digest.update(line)
                record = _record(line)
                if record.id in ids:
                    raise InvalidRequest("The id is the same as one before, or looks the same.")
                ids.add(record.id)
                summary.count(record)
                yield record
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}, line {number}: {error.message}") from error
    raise InvalidRequest(f"{path} is not complete: its last line is missing.")


def _write(file: BinaryIO, records: Iterable[Record]) -> Summary:
    summary, digest = Summary(), hashlib.sha256()

    def line(value: object) -> None:
        data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        digest.update(data)
        file.write(data)

    line({"format": _FORMAT, "version": _VERSION, "created_at": datetime.now(UTC).isoformat(timespec="seconds")})
    for record in records:
        line(_dumped(record))
        summary.count(record)
    line({"people": summary.people, "samples": summary.samples, "sha256": digest.hexdigest()})
    return summary


def _check_head(file: BinaryIO, digest: Any) -> None:
    line = file.readline(4096)
    digest.update(line)
    if b'"format"' not in line:
        raise InvalidRequest("It is no file that export has written.")
    version = _parsed(_Head, line).version
    if not 1 <= version <= _VERSION:
        raise InvalidRequest(f"It has version {version} of the format; this release reads versions 1 to {_VERSION}.")


def _check_foot(foot: _Foot, read: Summary, digest: str) -> None:
    if (foot.people, foot.samples, foot.sha256) != (read.people, read.samples, digest):
        raise InvalidRequest("The file was changed or damaged: its checksum is another.")


def _parsed(model: type[_AnyLine], line: bytes) -> _AnyLine:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "This"
        raise InvalidRequest(f"{place} is not as export writes it.") from None


def _dumped(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "metadata": record.metadata,
        "action": record.action,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "samples": [
            {"space": space, "vector": base64.b64encode(vector.astype(_FLOAT32).tobytes()).decode()}
            for space, vector in record.samples
        ],
    }


def _record(line: bytes) -> Record:
    person = _parsed(_Person, line)
    id = check_id(person.id)
    # Former releases took blank names.
    name = check_name(person.name) if person.name.strip() else id
    samples = [(sample.space, _vector(sample.vector)) for sample in person.samples]
    for space, vector in samples:
        NewSample(id, name, person.metadata, space, vector, person.action)
    created, updated = _time(person.created_at), _time(person.updated_at)
    return Record(id, name, person.metadata, person.action, samples, 0, created, updated)


def _time(text: str | None) -> str | None:
    """A time as the gallery has it."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{text[:50]!a} is no time.") from None


def _vector(text: str) -> Vector:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), _FLOAT32).astype(np.float32)
    except (binascii.Error, ValueError):
        raise InvalidRequest("A vector is not the base64 of 32-bit numbers.") from None
