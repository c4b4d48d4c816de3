"""docker-compose.yml and the Dockerfiles against the code: nothing here needs Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from face_detection.app import OPERATIONS
from face_detection.gallery import is_postgres
from feature_extraction.app import create_app
from shared.settings import ExtractionSettings, FrontSettings, Settings, is_loopback, split_bind
from tests.conftest import ROOT

NOT_OURS = re.compile(r"PYTHON\w+|HOME|NVIDIA_\w+|PGPASSWORD")
"""Variables for Python, the C library, the container runtime and the driver of PostgreSQL."""


@dataclass
class Stage:
    """What a stage of a Dockerfile adds up to, with all that it is built on."""

    copied: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    health: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)


def instructions(file: Path) -> list[tuple[str, str]]:
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined)]


def read_stages(file: Path) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    stage = Stage()
    for name, rest in instructions(file):
        match name:
            case "FROM":
                image, _, title = rest.partition(" AS ")
                below = stages.get(image)
                assert below or image == "python:3.11-slim", image
                stage = stages[title] = Stage()
                if below:
                    stage.copied, stage.commands = list(below.copied), list(below.commands)
                    stage.environment, stage.user = dict(below.environment), below.user
                    stage.health, stage.start = below.health, below.start
            case "ENV":
                stage.environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "COPY":
                stage.copied += rest.split()[:-1]
            case "RUN":
                stage.commands += [command.strip() for command in rest.split("&&")]
            case "USER":
                stage.user = rest
            case "HEALTHCHECK":
                stage.health = json.loads(rest[rest.index("CMD ") + 4 :])
            case "CMD":
                stage.start = json.loads(rest)
            case _:
                assert name in ("WORKDIR", "EXPOSE"), name
    return stages


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ALL: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVICES = {name: service for name, service in ALL.items() if "build" in service}
"""Those that run code of this project; the others are stock images."""

BALANCER = ALL["balancer"]
SCALED = {name for name, service in SERVICES.items() if service.get("profiles") == ["scale"]}


@pytest.fixture(params=SERVICES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(name: str) -> dict[str, Any]:
    return SERVICES[name]


@pytest.fixture
def image(service: dict[str, Any]) -> Stage:
    """The image that a service runs."""
    build = service["build"]
    assert build["context"] == "."
    return read_stages(ROOT / build["dockerfile"])[build.get("target", "")]


@pytest.fixture
def kind(name: str) -> type[Settings]:
    return FrontSettings if name.startswith("front") else ExtractionSettings


@pytest.fixture
def environment(service: dict[str, Any], image: Stage) -> dict[str, str]:
    """What the process finds when nothing comes from the shell."""
    return image.environment | {key: value for key, value in service["environment"].items() if value is not None}


@pytest.fixture
def settings(kind: type[Settings], environment: dict[str, str]) -> Settings:
    return kind.from_environment(environment)


@pytest.fixture
def bind(kind: type[Settings], environment: dict[str, str]) -> str:
    return environment["FRONT_BIND" if kind is FrontSettings else "EXTRACTION_BIND"]


def ignored(path: str) -> bool:
    """Whether .dockerignore, which lists what it lets through, keeps a path from the builder."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return f"!{path}" not in lines


def test_every_variable_is_a_setting(service: dict[str, Any], image: Stage, kind: type[Settings]) -> None:
    named = {variable for variable in {*image.environment, *service["environment"]} if not NOT_OURS.fullmatch(variable)}
    assert named <= {setting.upper() for setting in kind.model_fields}


def test_the_service_may_bind_to_its_address(settings: Settings, bind: str) -> None:
    assert not is_loopback(bind)
    settings.refuse_open_bind(bind)


def test_what_is_copied_is_there(image: Stage) -> None:
    assert "shared" in image.copied and "requirements.txt" in image.copied
    for path in image.copied:
        assert (ROOT / path).exists() and not ignored(path), path


def test_what_is_installed_was_copied(image: Stage) -> None:
    words = " ".join(image.commands).split()
    installed = [words[at + 1] for at, word in enumerate(words) if word == "--requirement"]
    named = [
        line.split()[1] for path in installed for line in (ROOT / path).read_text().splitlines() if line[:3] == "-r "
    ]
    assert installed and {*installed, *named} <= set(image.copied)


def test_the_front_has_the_drivers_of_all_that_its_settings_can_name() -> None:
    (image,) = read_stages(ROOT / "deploy" / "front.Dockerfile").values()
    assert {"requirements-postgres.txt", "requirements-milvus.txt"} <= set(image.copied)


def test_only_code_and_requirements_reach_the_builder() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        path
        for file in (ROOT / "deploy").glob("*.Dockerfile")
        for stage in read_stages(file).values()
        for path in stage.copied
    }
    assert let_through == copied


def test_the_command_runs_what_was_copied(image: Stage, name: str) -> None:
    words = " ".join(image.start).split()
    modules = [words[i + 1] for i, word in enumerate(words) if word == "-m"]
    configuration = words[words.index("--config") + 1]
    assert modules[-1] == "gunicorn"
    for module in modules[:-1]:
        path = Path(*module.split("."))
        assert path.parts[0] in image.copied
        assert (ROOT / path / "__main__.py").is_file() or (ROOT / path).with_suffix(".py").is_file()
    assert (ROOT / configuration).is_file() and configuration.split("/")[0] in image.copied
    assert ("feature_extraction.weights" in modules) == name.startswith("extraction")


def test_signals_reach_gunicorn(image: Stage) -> None:
    assert image.start[0] != "sh" or "&& exec " in image.start[-1]


def test_the_service_runs_as_a_normal_user(image: Stage, service: dict[str, Any]) -> None:
    assert any(re.match(rf"useradd .*\b{image.user}$", command) for command in image.commands)
    assert image.user not in ("root", "0") and "user" not in service
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_ports_are_published_to_this_machine_only(name: str, service: dict[str, Any], bind: str) -> None:
    ports = service.get("ports", [])
    assert bool(ports) == (name.startswith("front") and name not in SCALED)
    for port in ports:
        address, _, inside = port.rpartition(":")
        assert is_loopback(address)
        assert int(inside) == split_bind(bind)[1]


def test_the_health_check_asks_for_a_route_that_exists(image: Stage, kind: type[Settings], bind: str) -> None:
    program = image.health[-1]
    compile(program, "HEALTHCHECK", "exec")
    found = re.search(r"C\('127\.0\.0\.1', (\d+), .*request\('GET', '([^']+)'\)", program)
    assert found and int(found[1]) == split_bind(bind)[1]
    if kind is FrontSettings:
        routes = {operation.path for operation in OPERATIONS if operation.method == "GET"}
    else:
        routes = {rule.rule for rule in create_app(ExtractionSettings()).url_map.iter_rules()}
    assert found[2] in routes


def test_what_lasts_lies_in_volumes(service: dict[str, Any], settings: Settings, image: Stage) -> None:
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in service["volumes"])
    folders = {"weights": str(settings.deepface_home)}
    if isinstance(settings, FrontSettings) and not is_postgres(settings.database):
        folders["gallery"] = str(PurePosixPath(settings.database).parent)
    assert mounts == folders
    assert set(mounts) <= set(COMPOSE["volumes"])
    # The folder must belong to the user before the volume covers it.
    (made,) = [command for command in image.commands if command.startswith("install -d")]
    assert set(folders.values()) <= set(made.split())


def test_the_front_only_reads_the_weights(name: str, service: dict[str, Any]) -> None:
    assert ("weights:/weights:ro" in service["volumes"]) == name.startswith("front")


def test_a_service_waits_for_what_it_cannot_start_without(
    name: str, settings: Settings, service: dict[str, Any]
) -> None:
    awaited = service.get("depends_on", {})
    if name in SCALED:
        # The first worker fetches the weights, which the others and the fronts read.
        expected = {"extraction-1"} - {name} | ({"postgres"} if name.startswith("front") else set())
    else:
        expected = {str(urlsplit(settings.extraction_url).hostname)} if isinstance(settings, FrontSettings) else set()
    assert awaited == {other: {"condition": "service_healthy"} for other in expected}
    assert all(ALL[other].get("profiles") == service.get("profiles") for other in awaited)


def test_the_front_asks_an_address_at_which_extraction_listens(settings: Settings) -> None:
    if not isinstance(settings, FrontSettings):
        return
    url = urlsplit(settings.extraction_url)
    if url.hostname == "balancer":
        assert split_bind(BALANCER["environment"]["EXTRACTION_BIND"])[1] == url.port
        return
    asked = SERVICES[str(url.hostname)]["build"]
    port = read_stages(ROOT / asked["dockerfile"])[asked["target"]].environment["EXTRACTION_BIND"]
    assert split_bind(port)[1] == url.port


def test_the_gpu_is_asked_for_only_in_its_profile(name: str, service: dict[str, Any], image: Stage) -> None:
    gpu = name == "extraction-gpu"
    assert service.get("profiles") == (["gpu"] if name.endswith("-gpu") else ["scale"] if name in SCALED else None)
    assert ("deploy" in service) == gpu == ("requirements-gpu.txt" in image.copied)
    assert (service["environment"].get("EXECUTION_PROVIDERS") == "cuda") == gpu
    if gpu:
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_cpus_runtime_goes_before_that_for_the_gpu_comes() -> None:
    commands = read_stages(ROOT / "deploy" / "extraction.Dockerfile")["gpu"].commands
    steps = [
        "pip install --no-cache-dir --requirement requirements.txt",
        "pip uninstall --yes onnxruntime",
        "pip install --no-cache-dir --requirement requirements-gpu.txt",
    ]
    assert [command for command in commands if command.startswith("pip ")] == steps
