"""python -m face_detection doctor"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click

from face_detection.cli.console import printable
from face_detection.cli.parameters import json_option
from face_detection.cli.service import api_key, url_option
from face_detection.cli.service.remote import RemoteService, Unreachable
from face_detection.extraction.client import ExtractionClient, ServedModel
from face_detection.gallery import Gallery, open_gallery
from face_detection.gallery.collections import tenant_of
from face_detection.gallery.directory import Tenant
from face_detection.gallery.people import Sample
from face_detection.gallery.sql.tables import ids_of_people
from face_detection.gallery.sqlite.backup import find_damage
from face_detection.gallery.sqlite.failures import DAMAGED_ADVICE, obstacle
from face_detection.naming import normal_id
from face_detection.recognition.conflicts import Contradicted, conflicts
from shared.disks import nearest_folder, try_writing
from shared.errors import InvalidRequest, ServiceError, SettingsError
from shared.models import CATALOGUE, YUNET
from shared.settings import ExtractionSettings, FrontSettings, split_bind
from shared.tethered import ROOT, python_environment

_SECONDS = 120
_PAGE = 1000
_MOST_SHOWN = 10
_LITTLE, _TOO_LITTLE = 1 << 30, 100 << 20
"""Free bytes of a disk below which there is a note, and below which writing may fail any moment."""

_MAKE_ROOM = "Make room on it before it is full: what finds none is refused."
_A_DOWNLOAD = 1 << 20

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}

_START = "Start both services: make run"


class State(StrEnum):
    """How something is; ``NOTE`` may be meant so."""

    WELL = "ok"
    NOTE = "note"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Finding:
    """How one thing is.

    Attributes:
        what: was looked at.
        state: how it is.
        found: in words.
        advice: what to do, empty when there is nothing to do.
    """

    what: str
    state: State
    found: str
    advice: str = ""

    def row(self) -> dict[str, str]:
        """The finding as JSON."""
        return {"what": self.what, "state": self.state.lower(), "found": self.found, "advice": self.advice}


_COLOURS = {State.WELL: "green", State.NOTE: "yellow", State.BROKEN: "red"}


@click.command(
    epilog="""\b
Examples:
  python -m face_detection doctor
  python -m face_detection doctor --json --url http://10.0.0.5:6337
"""
)
@url_option
@click.option(
    "--gallery",
    is_flag=True,
    help="Look for photos of the database that are nearer to somebody else than to their own person, or far from all "
    "other photos of theirs.",
)
@click.option("--integrity", is_flag=True, help="Compare every index of an SQLite database with its table, too.")
@json_option("Print a JSON array with an object for each finding.")
@click.pass_context
def doctor(context: click.Context, url: str, gallery: bool, integrity: bool, as_json: bool) -> None:
    """Look whether everything works, and say of what does not what to do.

    It checks settings, ports, weights, the runtime of the model, database, disk space, and the services if they run.
    What is broken makes the exit code 1; a note says what is absent and may be meant so, like a service that does not
    run when no address was given.
    """
    findings = list(
        _findings(
            url,
            gallery,
            integrity,
            expected=context.get_parameter_source("url") is not click.core.ParameterSource.DEFAULT,
        )
    )
    if as_json:
        click.echo(json.dumps([one.row() for one in findings], indent=2))
    else:
        for one in findings:
            mark = click.style(f"{one.state:<7}", fg=_COLOURS[one.state])
            click.echo(f"{mark} {one.what}: {printable(one.found)}")
            if one.advice:
                click.echo(f"        {printable(one.advice)}")
    sys.exit(any(one.state is State.BROKEN for one in findings))


def _findings(url: str, gallery: bool, integrity: bool, expected: bool) -> Iterable[Finding]:
    try:
        extraction, front = ExtractionSettings.from_environment(), FrontSettings.from_environment()
    except SettingsError as error:
        yield Finding(
            "settings", State.BROKEN, error.message, "Correct the environment variable; see docs/settings.md."
        )
        return
    yield Finding("settings", State.WELL, "all can be read")
    yield from _examine_machine(extraction, front, integrity)
    if gallery:
        yield from _conflicts(front)
    yield from _examine_services(extraction, front, url, expected)


def _examine_machine(extraction: ExtractionSettings, front: FrontSettings, integrity: bool) -> Iterator[Finding]:
    """What needs no service: weights, runtime, database, disks, optional parts."""
    if (ROOT / "feature_extraction").is_dir():
        yield _weights(extraction.model, "the model's weights", extraction.weights)
        yield _weights(YUNET.name, "the detector's weights", extraction.weights)
        yield _runtime(extraction)
    else:
        yield Finding(
            "extraction package", State.NOTE, "not in this installation", "Set EXTRACTION_URL to one that runs."
        )
        known = (front.weights / YUNET.file).is_file()
        state, found = (State.WELL, "there") if known else (State.BROKEN, f"{front.weights / YUNET.file} is missing")
        yield Finding("the detector's weights", state, found, "" if known else "Mount the folder of the weights there.")
    database = _database(front.database, integrity)
    yield database
    if database.state is State.WELL:
        yield from _unusual_ids(front.database)
    yield _disk("disk of the weights", front.weights)
    if _is_file(front.database):
        yield _disk("disk of the database", Path(front.database))
    if importlib.util.find_spec("_tkinter") is None:
        yield Finding(
            "windows (tkinter)", State.NOTE, "absent; only live --window needs it", "apt-get install python3-tk"
        )
    else:
        yield Finding("windows (tkinter)", State.WELL, "there")


def _weights(model: str, what: str, folder: Path) -> Finding:
    fetch = f"python -m feature_extraction.weights fetch {model}"
    status, lines = _python("-m", "feature_extraction.weights", "verify", model)
    found = "; ".join(" ".join(line.split()[1:3]) for line in lines) or "cannot be examined"
    if status == 0:
        return Finding(what, State.WELL, found)
    try:
        try_writing(nearest_folder(folder), _A_DOWNLOAD)
    except OSError as error:
        advice = (
            "Make room there, or give the user who runs the service the right to write there, or let DEEPFACE_HOME "
            f"name another folder; then run: {fetch}"
        )
        return Finding(what, State.BROKEN, f"{found}; {folder} cannot be written: {error.strerror}", advice)
    if lines and "damaged" not in found:
        return Finding(what, State.NOTE, found, f"The first start fetches them, and so does: {fetch}")
    return Finding(what, State.BROKEN, found, f"Delete what is damaged, and run: {fetch}")


def _runtime(extraction: ExtractionSettings) -> Finding:
    what = "runtime of the model"
    if extraction.engine != "onnx":
        module = {"tensorflow": "tensorflow", "pytorch": "torch"}[extraction.engine]
        if importlib.util.find_spec(module) is None:
            advice = f"Run: pip install -r requirements-{extraction.engine}.txt"
            return Finding(what, State.BROKEN, f"{module} is not installed", advice)
        return Finding(what, State.WELL, f"{module} is installed")
    # In a process of its own: the front imports no runtime.
    program = "import json, onnxruntime as o; print(json.dumps([o.__version__, *o.get_available_providers()]))"
    status, lines = _python("-c", program)
    if status:
        return Finding(what, State.BROKEN, "onnxruntime cannot be imported", "Run: pip install -r requirements.txt")
    version, *available = json.loads(lines[-1])
    found = f"onnxruntime {version} with {', '.join(available)}"
    wanted = [name.strip().lower() for name in extraction.execution_providers.split(",")]
    lacking = [name for name in wanted if _PROVIDERS.get(name, name) not in available]
    if lacking:
        advice = (
            "For a GPU: pip uninstall -y onnxruntime && pip install -r requirements-gpu.txt; or set "
            "EXECUTION_PROVIDERS=cpu."
        )
        return Finding(what, State.BROKEN, f"{found}; EXECUTION_PROVIDERS wants {', '.join(lacking)}", advice)
    if shutil.which("nvidia-smi") and _PROVIDERS["cuda"] not in available:
        return Finding(what, State.NOTE, f"{found}; there is an NVIDIA GPU that is not used", "See docs/deployment.md.")
    return Finding(what, State.WELL, found)


def _database(database: str, integrity: bool) -> Finding:
    what = "database"
    if database == ":memory:":
        return Finding(
            what, State.NOTE, "in memory: people are forgotten when the service ends", "Set DATABASE to a path."
        )
    path, name = Path(database), database if _is_file(database) else "the database server"
    try:
        if _is_file(database):
            if found := obstacle(path):
                return Finding(what, State.BROKEN, f"DATABASE={path}: {found.text}", found.advice)
            if not path.exists():
                return Finding(what, State.WELL, f"{path} will be made")
            if damage := find_damage(path, integrity):
                return Finding(what, State.BROKEN, f"DATABASE={path} is damaged: {damage}", DAMAGED_ADVICE)
        gallery = open_gallery(database)
        try:
            count = sum(map(gallery.store.count, gallery.directory.settings_of_galleries()))
        finally:
            gallery.close()
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.text, error.advice or "See docs/databases.md.")
    return Finding(what, State.WELL, f"{name} has {count} photos")


def _unusual_ids(database: str) -> Iterator[Finding]:
    """Ids of former releases that would not be taken today, and those of the same look."""
    if _is_file(database) and not Path(database).exists():
        return
    try:
        gallery = open_gallery(database)
        try:
            found = [(tenant_of(owner), id) for owner, id in ids_of_people(gallery.tables) if not _is_usual(id)]
        finally:
            gallery.close()
    except ServiceError:  # said above
        return
    if found:
        shown = ", ".join(f"{id!a} of {tenant}" for tenant, id in found[:_MOST_SHOWN])
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        advice = (
            "They look like ids of others who are there, or no address can carry them: enrol these people anew under "
            "another id if they are still needed, and delete them: people delete --local --company CODE ID"
        )
        yield Finding("ids of people", State.NOTE, f"from former releases: {shown}{more}", advice)


def _conflicts(front: FrontSettings) -> Iterator[Finding]:
    """Photos that others contradict, of each company and model."""
    try:
        gallery = open_gallery(front.database)
        try:
            found = [
                _contradicted(tenant.id, one)
                for tenant in gallery.directory.tenants()
                for one in _conflicts_of(gallery, tenant, front)
            ]
        finally:
            gallery.close()
    except ServiceError as error:
        yield Finding("photos against each other", State.BROKEN, error.message, error.advice or "See above.")
        return
    yield from found or [Finding("photos against each other", State.WELL, "none contradicts another")]


def _conflicts_of(gallery: Gallery, tenant: Tenant, front: FrontSettings) -> Iterator[Contradicted]:
    store, spaces = gallery.store, defaultdict[str, list[Sample]](list)
    after: str | None = None
    while True:
        page = store.page(tenant.id, _PAGE, after)
        for person in page.people:
            for sample in store.samples(tenant.id, person.id):
                spaces[sample.space].append(sample)
        if page.next is None:
            break
        after = page.next
    for space, samples in spaces.items():
        if (card := CATALOGUE.get(space.partition("/")[0])) is None:
            continue  # of a model that this release does not know
        metric = front.distance if front.distance in card.thresholds else None
        metric = metric or card.metric
        chosen = front.min_distance if tenant.settings.min_distance is None else tenant.settings.min_distance
        yield from conflicts(samples, metric, card.threshold(metric).distance if chosen is None else chosen)


def _contradicted(tenant: str, one: Contradicted) -> Finding:
    own, near = one.sample.person, one.conflict.near
    assert near is not None
    what = f"photo {one.sample.number} of {own.id!a} in company {tenant}"
    if one.conflict.kind == "nearer_to_other":
        found = f"is nearest to photo {near.photo} of {near.id!a} ({near.name}): distance {near.distance:.4g}"
        advice = "If it shows that person, or both are one: "
    else:
        found = f"is far from all other photos of {own.name}: distance {near.distance:.4g}"
        advice = "If it shows somebody else: "
    return Finding(what, State.NOTE, found, f"{advice}people photos --local --company {tenant} {own.id!a} --delete N")


def _is_usual(id: str) -> bool:
    try:
        return normal_id(id) == id
    except InvalidRequest:
        return False


def _is_file(database: str) -> bool:
    """Whether DATABASE is no address, which may have a password in it."""
    return database != ":memory:" and "://" not in database


def _disk(what: str, path: Path) -> Finding:
    folder = nearest_folder(path)
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _TOO_LITTLE:
        return Finding(what, State.BROKEN, found, _MAKE_ROOM)
    return Finding(what, State.NOTE, found, _MAKE_ROOM) if free < _LITTLE else Finding(what, State.WELL, found)


def _python(*arguments: str) -> tuple[int, list[str]]:
    """Exit status and output lines of a Python process."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=python_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return 1, []
    return done.returncode, done.stdout.splitlines()


def _examine_services(
    extraction: ExtractionSettings, front: FrontSettings, url: str, expected: bool
) -> Iterator[Finding]:
    """The services; ``expected`` says whether the one at ``url`` must run."""
    workers = asyncio.run(_workers(front.extraction_urls))
    yield from workers
    answers = any(worker.state is State.WELL for worker in workers)
    yield _port("port of the extraction service", extraction.extraction_bind, answers)
    answer = _front(url, expected)
    yield answer
    yield _port("port of the front", front.front_bind, answer.found.startswith("ready"))
    if answer.state is State.WELL and not answers:
        # Another machine's, perhaps: then the settings here are not the front's.
        yield Finding(
            "settings", State.NOTE, f"the service at {url} uses another extraction service than EXTRACTION_URL"
        )


async def _workers(urls: Sequence[str]) -> list[Finding]:
    answers = await asyncio.gather(*map(_served, urls))
    spaces = {answer.space for answer in answers if isinstance(answer, ServedModel)}
    findings = []
    for url, answer in zip(urls, answers, strict=True):
        what = f"extraction service at {url}"
        if isinstance(answer, ServiceError):
            advice = f"{_START}; or set EXTRACTION_URL; --local needs none."
            findings.append(Finding(what, State.NOTE, answer.message, advice))
            continue
        found = f"ready: {answer.card.name} on {answer.engine}, {answer.device}"
        if len(spaces) > 1:
            advice = "A front refuses the workers of other models than the one in use: give all of them the same MODEL."
            findings.append(Finding(what, State.NOTE, f"{found}; of several models, this is {answer.space}", advice))
        else:
            findings.append(Finding(what, State.WELL, found))
    return findings


async def _served(url: str) -> ServedModel | ServiceError:
    client = ExtractionClient([url], 10)
    try:
        await client.check_ready()
        return await client.model()
    except ServiceError as error:
        return error
    finally:
        await client.close()


def _front(url: str, expected: bool) -> Finding:
    what, key = f"service at {url}", api_key()
    try:
        service = RemoteService(url, key)
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.message, "Correct --url, FACE_URL or FACE_API_KEY.")
    try:
        ready = service.ready()
    except Unreachable as error:
        return Finding(what, State.BROKEN if expected else State.NOTE, error.message)
    except ServiceError as error:
        return Finding(what, State.BROKEN, error.message, "See the log of the service.")
    finally:
        service.close()
    if "samples" not in ready:
        advice = "Put a key into FACE_API_KEY; the operator makes one: python -m face_detection keys create --help"
        return Finding(what, State.NOTE, "ready, but wants an API key" if key is None else "refuses the key", advice)
    found = f"ready: {ready.get('model')}, threshold {ready.get('min_distance')}, {ready['samples']} photos"
    if people := ready.get("people_of_other_models"):
        advice = "Enrol them again, or serve the model that they were enrolled under (MODEL)."
        return Finding(what, State.NOTE, f"{found}; {people} people have no photo of this model", advice)
    return Finding(what, State.WELL, found)


def _port(what: str, bind: str, answers: bool) -> Finding:
    host, port = split_bind(bind)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if answers:
                return Finding(what, State.WELL, f"{bind} is in use, by the service")
            name = what.removeprefix("port of the ").split()[0]
            variables = {"front": "FRONT_BIND", "extraction": "EXTRACTION_BIND and EXTRACTION_URL"}[name]
            advice = f"Look what listens there (ss -ltnp), or choose another address: {variables}"
            return Finding(what, State.BROKEN, f"{bind} cannot be used: {error.strerror}", advice)
    return Finding(what, State.WELL, f"{bind} is free")
