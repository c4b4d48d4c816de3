"""Typed settings, read from the environment.

The name of a setting is the field's name in capitals. ``docs/settings.md`` lists them; a test compares the two.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from shared.calibration import Limit, limit_of
from shared.errors import SettingsError
from shared.models import CATALOGUE, Effort, Metric, OnConflict, find_card, weights_folder

MEBIBYTE = 1 << 20

Precision = Literal["fp32", "int8"]

Strictness = Literal["none", "auto", "strict"]
"""Of what a face must have to become a sample."""

_NAME = r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_HOST = re.compile(rf"{_NAME}(?::([0-9]{{1,5}}))?", re.ASCII | re.IGNORECASE)
_HOST_OR_ADDRESS = re.compile(rf"(?:{_NAME}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?", re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?/?", re.ASCII | re.IGNORECASE
)
_PATH = re.compile(r"(?:/[a-z0-9_~-][a-z0-9._~-]*)+", re.ASCII | re.IGNORECASE)


def _check_bind(value: str) -> str:
    split_bind(value)
    return value


def _check_hosts(value: str) -> str:
    for entry in value.split(","):
        found = _HOST.fullmatch(entry.strip())
        if not found or not 0 < int(found[1] or 80) < 65536:
            raise ValueError("must be host names such as example.org, *.example.org or example.org:8080, with commas")
    return value


def _check_own_hosts(value: str) -> str:
    for entry in value.split(","):
        found = _HOST_OR_ADDRESS.fullmatch(entry.strip())
        if not found or not 0 < int(found[1] or 80) < 65536:
            raise ValueError("must be names such as faces.example.org, *.example.org or faces.lan:6337, with commas")
    return value


def _check_origins(value: str) -> str:
    if not all(_ORIGIN.fullmatch(entry.strip()) for entry in value.split(",")):
        raise ValueError("must be origins such as https://app.example.org or http://localhost:3000, with commas")
    return value


def _check_networks(value: str) -> str:
    try:
        for entry in value.split(","):
            ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.7 or 10.0.0.0/8, with commas") from None
    return value


def check_path(value: str) -> str:
    """A path like ``/faces``, without the slash at its end.

    Raises:
        ValueError: it is something else.
    """
    if not _PATH.fullmatch(value.rstrip("/")):
        raise ValueError("must be a path such as /faces")
    return value.rstrip("/")


def _check_urls(value: str) -> str:
    urls = _split_urls(value)
    for url in urls:
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.query or parts.fragment or re.search(r"\s", url):
            raise ValueError("must be http://HOST:PORT or https://HOST:PORT, or several of them with commas")
    if len({url.lower() for url in urls}) < len(urls):
        raise ValueError("names an address twice")
    return value


def _split_urls(value: str) -> tuple[str, ...]:
    return tuple(url.strip().rstrip("/") for url in value.split(","))


def _check_angles(value: str) -> str:
    angles = [entry.strip() for entry in value.split(",")]
    if "0" not in angles or not set(angles) <= {"0", "90", "180", "270"}:
        raise ValueError("must be 0, with 90, 180 and 270 as wanted, with commas")
    return value


def _check_model(value: str) -> str:
    try:
        return find_card(value).name
    except SettingsError:
        raise ValueError(f"must be one of {', '.join(CATALOGUE)}") from None


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user without an entry in the user database, as in containers
        raise ValueError("there is no home folder; name another") from None


def split_bind(bind: str) -> tuple[str, int]:
    """``host:port`` as a pair.

    Raises:
        ValueError: no port, or not a number in 1 … 65535.
    """
    host, separator, port = bind.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT with a port from 1 to 65535")
    return host.strip("[]") or "0.0.0.0", int(port)


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach a bind address."""
    host, _ = split_bind(bind)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def available_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


Bind = Annotated[str, AfterValidator(_check_bind)]


class Settings(BaseModel):
    """What both services read."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    deepface_home: Annotated[Path, AfterValidator(_expand_home)] = Field(
        default=Path("~"),
        validate_default=True,
        description="Folder that holds `.deepface/weights`, as in DeepFace itself.",
    )
    max_image_bytes: int = Field(default=20 * MEBIBYTE, gt=0, description="Largest encoded picture, in bytes.")
    max_image_pixels: int = Field(
        default=50_000_000, gt=0, description="Largest picture, in pixels; checked in its header before decoding."
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Permit binding to an address that other machines can reach although no API key protects it, "
        "and serve requests without a key beside those with one, see `docs/access.md`.",
    )
    allowed_hosts: Annotated[str, AfterValidator(_check_own_hosts)] | None = Field(
        default=None,
        description="Names by which the service is reached beside its address and `localhost`, comma-separated: "
        "`faces.example.org`, `*.example.org` for those below it, `faces.lan:6337` for one port; requests for other "
        "names are refused with 421, see `docs/access.md`.",
    )
    liveness: Literal["off", "available", "required"] = Field(
        default="off",
        description="Whether faces before the camera are told from pictures of them: `off`, `available` to requests "
        "and companies that ask for it, or `required` for every recognition, see `docs/liveness.md`.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log lines that are written."
    )

    @property
    def checks_liveness(self) -> bool:
        """Whether the extraction service has the liveness check."""
        return self.liveness != "off"

    @property
    def weights(self) -> Path:
        """The folder with the weight files."""
        return weights_folder(self.deepface_home)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings; an empty variable counts as unset.

        Raises:
            SettingsError: a value is malformed; the message names every such variable.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: text for name in cls.model_fields if (text := environment.get(name.upper(), "").strip())
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            complaints = [
                (str(item["loc"][0]).upper(), str(item["input"]), item["msg"].removeprefix("Value error, "))
                for item in error.errors()
            ]
            lines = "; ".join(f"{name}={value!r}: {message}" for name, value, message in complaints)
            raise SettingsError(f"Invalid settings: {lines}.") from None

    def refuse_open_bind(self, bind: str) -> None:
        """Refuse an address that other machines can reach unless ALLOW_ANONYMOUS says that this is meant.

        Raises:
            SettingsError: see above.
        """
        if not self.allow_anonymous and not is_loopback(bind):
            raise SettingsError(
                f"Refusing to bind to {bind}: anybody who reaches it could use the service. "
                "Bind to 127.0.0.1, or set ALLOW_ANONYMOUS=true if that is what you want."
            )


class ExtractionSettings(Settings):
    """Settings of the extraction service."""

    model: Annotated[str, AfterValidator(_check_model)] = Field(
        default="facenet",
        description="Model to serve: one network, or several whose embeddings are combined, such as `sface+dlib`; see "
        "`docs/models.md`.",
    )
    engine: Literal["onnx", "tensorflow", "pytorch"] = Field(
        default="onnx", description="Runtime that executes the network."
    )
    precision: Precision = Field(
        default="fp32",
        description="`fp32`, or `int8` for `MODEL=facenet` and combinations with it, with `ENGINE=onnx` on the CPU: "
        "FaceNet in 8-bit integers, more than twice as fast on a CPU with VNNI; an embedding space of its own, see "
        "`docs/models.md`.",
    )
    execution_providers: str = Field(
        default="cpu",
        description="Where the network runs: `cpu`, `cuda`, or for `ENGINE=onnx` also `tensorrt`; comma-separated, "
        "first is preferred. One that is named and absent is a start-up error.",
    )
    extraction_bind: Bind = Field(default="127.0.0.1:5000", description="Address of the extraction service.")
    compute_threads: int = Field(default=0, ge=0, description="CPU threads of the engine; 0 takes every core.")
    gpu_memory_mib: int = Field(
        default=0, ge=0, description="Upper limit of GPU memory in MiB; 0 lets it grow with need."
    )
    max_batch: int = Field(default=16, gt=0, le=1024, description="Most crops in one run of the network.")
    max_request_crops: int = Field(default=256, gt=0, description="Most crops in one request.")
    max_queued_crops: int = Field(
        default=1024, gt=0, description="Crops that may wait; beyond it the answer is 429 with Retry-After."
    )
    embed_timeout: float = Field(
        default=30.0,
        gt=0,
        description="Seconds within which a request's crops are embedded; also the longest wait for a front that sends "
        "or reads.",
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds for which a service that is told to end goes on accepting requests while `/readyz` says "
        "503, so that a load balancer turns away from it first; see `docs/deployment.md`.",
    )
    extraction_threads: int = Field(
        default=64, gt=0, description="Requests that the extraction service handles at once (they mostly wait)."
    )


class FrontSettings(Settings):
    """Settings of the front."""

    front_bind: Bind = Field(default="127.0.0.1:6337", description="Address of the front.")
    front_workers: int = Field(
        default=1,
        gt=0,
        le=64,
        description="Processes of the front; one already uses every core.",
    )
    extraction_url: Annotated[str, AfterValidator(_check_urls)] = Field(
        default="http://127.0.0.1:5000",
        description="Address at which the front reaches the extraction service, or those of several workers, "
        "comma-separated, see `docs/deployment.md`.",
    )
    extraction_timeout: float = Field(
        default=30.0, gt=0, description="Seconds within which the extraction service must answer one call."
    )
    database: str = Field(
        default="data/gallery.db",
        min_length=1,
        description="Path of the SQLite database, `:memory:` for one that ends with the process, or "
        "`postgresql://user:password@host/name`, see `docs/databases.md`.",
    )
    search: Literal["memory", "pgvector", "milvus"] = Field(
        default="memory",
        description="Where nearest samples are found: `memory` is an exact index in each process, `pgvector` and "
        "`milvus` keep copies of the embeddings elsewhere, see `docs/scaling.md`.",
    )
    search_url: str | None = Field(
        default=None,
        description="`SEARCH=milvus`: `http://host:19530`, with `/name` behind it for one of its databases. "
        "`SEARCH=pgvector`: a PostgreSQL database with the extension `vector`; unset takes `DATABASE`.",
    )
    search_token: str | None = Field(default=None, description="`SEARCH=milvus`: its token, or `user:password`.")
    search_candidates: int = Field(
        default=200,
        ge=32,
        le=1000,
        description="Samples that `pgvector` and `milvus` look at closely for one face (`ef` of HNSW): more find the "
        "nearest more surely and take longer.",
    )
    search_exact_below: int = Field(
        default=20_000,
        ge=0,
        description="`SEARCH=pgvector`: a tenant with fewer samples than this is searched exactly.",
    )
    search_overlay: int = Field(
        default=1_000_000,
        gt=0,
        description="Most changes that a process keeps in memory while `pgvector` or `milvus` do not have them yet; "
        "with more of them it answers 503 until they do.",
    )
    milvus_index: Literal["hnsw", "ivf"] = Field(
        default="hnsw", description="Kind of index in Milvus: `hnsw` is fast, `ivf` takes a quarter of the memory."
    )
    milvus_partitions: int = Field(
        default=64, ge=1, le=1024, description="Partitions of a collection in Milvus, over which tenants are spread."
    )
    milvus_shards: int = Field(default=1, ge=1, le=16, description="Shards of a collection in Milvus.")
    milvus_replicas: int = Field(
        default=1, ge=1, le=16, description="Replicas of a collection in Milvus, each on query nodes of its own."
    )
    approximate_above: int = Field(
        default=0,
        ge=0,
        description="With more samples than this a tenant is searched approximately, which needs "
        "requirements-approximate.txt; 0 keeps the search exact at any size, see `docs/performance.md`.",
    )
    distance: Metric | None = Field(
        default=None,
        description="`tenfold-unit-euclidean`, `cosine` or `euclidean`; unset takes the model card's.",
    )
    min_distance: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Default threshold for requests that name none; unset takes the model card's.",
    )
    false_match_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Instead of `MIN_DISTANCE` the rate at which strangers may be named, such as `1e-3`; the threshold "
        "follows from it, from the model's curve and from the size of the gallery, see `docs/models.md`.",
    )
    detection_max_side: int = Field(
        default=1024,
        ge=64,
        le=4096,
        description="Pixels of the longer side to which pictures are scaled down for detection.",
    )
    detection: Effort = Field(
        default="fast",
        description="How hard faces are looked for where a request does not say: `fast` finds those of twice "
        "`MIN_FACE` in large pictures, `thorough` all from `MIN_FACE` on, see `docs/performance.md`.",
    )
    detection_angles: Annotated[str, AfterValidator(_check_angles)] = Field(
        default="0,90,180,270",
        description="Degrees clockwise by which heads may be turned in a picture; `0` looks for upright ones alone.",
    )
    detection_score: float = Field(default=0.75, ge=0, le=1, description="Least detector score of a face.")
    detection_nms: float = Field(
        default=0.3, ge=0, le=1, description="Overlap (IoU) above which two detections count as one face."
    )
    min_face: int = Field(
        default=20,
        ge=1,
        description="Shorter side of the smallest face reported, in pixels of the picture.",
    )
    quality_enrol: Strictness = Field(
        default="auto",
        description="How good a face must be to become a sample: `none` takes any, `auto` refuses what would match "
        "strangers, `strict` also what is only middling or turned aside, see `docs/models.md`.",
    )
    on_conflict: OnConflict = Field(
        default="report",
        description="What becomes of a photo that is nearer to somebody else than to its own person, or unlike its "
        "person's others, where a request does not say: `report` stores it and says so, `refuse` does not store it, "
        "see `docs/api/README.md`.",
    )
    max_faces: int = Field(default=256, gt=0, description="Most faces taken from one picture, best scores first.")
    cpu_threads: int = Field(default=0, ge=0, description="Threads that decode and detect; 0 takes every core.")
    max_body_bytes: int = Field(
        default=512 * MEBIBYTE, gt=0, description="Largest request body; pictures have a limit of their own."
    )
    max_batch_items: int = Field(default=2000, gt=0, description="Most samples in one `/update-samples`.")
    max_pending_requests: int = Field(
        default=256,
        gt=0,
        description="Requests worked on at once per process, of which one address has no more than it leaves to "
        "others; beyond it the answer is 429, see `docs/deployment.md`.",
    )
    max_pending_bytes: int = Field(
        default=1024 * MEBIBYTE,
        gt=0,
        description="Bodies held in memory at once per process, in bytes, shared likewise; beyond it the answer is "
        "429.",
    )
    cors_origins: Annotated[str, AfterValidator(_check_origins)] | None = Field(
        default=None,
        description="Origins of the web apps that may use the service from a browser, comma-separated: "
        "`https://app.example.org`; unset permits none but the service's own pages, see `docs/access.md`.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] | None = Field(
        default=None,
        description="Addresses or networks of the proxies before the service, comma-separated, whose "
        "`X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are believed, see `docs/deployment.md`; unset believes "
        "nobody.",
    )
    base_path: Annotated[str, AfterValidator(check_path)] | None = Field(
        default=None,
        description="Path below which a proxy shows the service, such as `/faces`; it answers with and without it.",
    )
    event_days: int = Field(
        default=30,
        ge=0,
        le=36500,
        description="Days for which events are kept unless a tenant says otherwise; 0 keeps none.",
    )
    sync_days: int = Field(
        default=30,
        ge=1,
        le=36500,
        description="Days for which clients and indexes that follow changes may be away; after that, deletions are no "
        "longer known and they start over.",
    )
    image_url_hosts: Annotated[str, AfterValidator(_check_hosts)] | None = Field(
        default=None,
        description="Hosts from which pictures are fetched by their address, comma-separated: `example.org`, "
        "`*.example.org` for those below it, `example.org:8080` for a port beside 80 and 443; unset fetches none.",
    )
    live_sessions: int = Field(
        default=16, ge=0, description="Live sessions at once per process, see `docs/api/live.md`; 0 allows none."
    )
    live_frame_bytes: int = Field(default=4 * MEBIBYTE, gt=0, description="Largest frame of a live session, in bytes.")
    web_assets: Path = Field(
        default=Path("build/web"),
        description="Folder with the files of onnxruntime-web that `/offline` runs; `python -m deploy.web_assets` "
        "fills it.",
    )
    body_timeout: float = Field(
        default=20.0,
        gt=0,
        description="Seconds within which each MiB of a request body, or what is left of it, must arrive; beyond it "
        "the answer is 408.",
    )
    request_timeout: float = Field(default=60.0, gt=0, description="Seconds within which a recognition must be done.")
    batch_timeout: float = Field(default=900.0, gt=0, description="Seconds within which a batch must be enrolled.")

    @field_validator("false_match_rate")
    @classmethod
    def _one_threshold(cls, rate: float | None, others: ValidationInfo) -> float | None:
        if rate is not None and others.data.get("min_distance") is not None:
            raise ValueError("MIN_DISTANCE is set too, and says what this says: leave one out")
        return rate

    @property
    def limit(self) -> Limit | None:
        """The default threshold, however it is named."""
        return limit_of(self.min_distance, self.false_match_rate)

    @property
    def extraction_urls(self) -> tuple[str, ...]:
        """The addresses of the extraction workers, without a slash at the end."""
        return _split_urls(self.extraction_url)

    @property
    def detection_turns(self) -> tuple[int, ...]:
        """The angles of ``detection_angles``, in order."""
        return tuple(sorted({int(angle) for angle in self.detection_angles.split(",")}))

    @property
    def decode_threads(self) -> int:
        """Number of threads that decode and detect."""
        return self.cpu_threads or available_cores()
