"""The index in Milvus when the server is away, hangs, is not the one, or refuses."""

from __future__ import annotations

import base64
import socket
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.servers.milvus import MilvusServer
from face_detection.gallery.remote.milvus import connection as milvus_connection
from face_detection.gallery.remote.milvus.index import MilvusIndex
from shared.errors import SearchUnavailable, SettingsError, StartupError
from shared.models import Metric
from tests.gallery_samples import SPACE, vectors
from tests.milvus_indexes import OpenMilvus, keys_in, stored

SECRET = "root:a secret word"


def test_a_server_that_hangs(
    open_milvus: OpenMilvus, milvus: MilvusServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(milvus_connection, "READ_TIMEOUT", 1.0)
    monkeypatch.setattr(milvus_connection, "CONNECT_TIMEOUT", 1.0)
    index = open_milvus()
    index.apply(stored(3), 0, 3)
    with milvus.frozen():
        for use in (
            lambda: index.nearest("t", vectors(1), 3),
            index.position,
            lambda: index.apply(stored(4), 3, 4),
            open_milvus,
        ):
            began = time.monotonic()
            with pytest.raises(SearchUnavailable):
                use()
            assert time.monotonic() - began < 5
    assert (index.position(), keys_in(index)) == (3, [1, 2, 3])
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_server_that_comes_back(milvus_name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Threads that find it away are told so at once, and the same handle works when it is back."""
    with MilvusServer() as server:
        index = MilvusIndex(server.url, None, milvus_name, 8, SPACE, Metric.COSINE, 200, partitions=4)
        index.apply(stored(3), 0, 3)
        server.kill()
        began = time.monotonic()
        with futures.ThreadPoolExecutor(8) as pool:
            searches = [pool.submit(index.nearest, "t", vectors(1), 3) for _ in range(16)]
            assert all(isinstance(search.exception(), SearchUnavailable) for search in searches)
        assert time.monotonic() - began < 5
        server.start()
        assert (keys_in(index), index.position()) == ([1, 2, 3], 3)
        server.stop()
        with pytest.raises(SearchUnavailable):
            index.position()
        server.start()
        index.apply(stored(1, first=4), 3, 4)
        assert keys_in(index) == [1, 2, 3, 4]
        index.close()
        with pytest.raises(SearchUnavailable):
            index.position()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "url",
    ["", "milvus", "milvus:19530", "ftp://host", "http://", "http://host:port", "http://host:99999", "file:///x.db"]
    + ["http://host/a/b", "http://host?a=b", "http://host/a#b"],
)
def test_addresses_that_are_none(open_milvus: OpenMilvus, url: str) -> None:
    with pytest.raises(SettingsError, match="SEARCH_URL"):
        open_milvus(url=url)


def test_an_address_with_a_password(open_milvus: OpenMilvus) -> None:
    with pytest.raises(SettingsError, match="SEARCH_TOKEN") as caught:
        open_milvus(url="http://root:hunter2@127.0.0.1:19530")
    assert "hunter2" not in str(caught.value)


def test_nobody_is_at_the_address(open_milvus: OpenMilvus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SearchUnavailable) as caught:
        open_milvus(url=f"http://127.0.0.1:{port}", token=SECRET)
    assert "secret" not in str(caught.value)


def test_something_else_is_at_the_address(open_milvus: OpenMilvus, extraction_url: str) -> None:
    began = time.monotonic()
    with pytest.raises((SearchUnavailable, StartupError)):
        open_milvus(url=extraction_url)
    assert time.monotonic() - began < 20


def test_the_client_is_missing(open_milvus: OpenMilvus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(StartupError, match="requirements-milvus.txt"):
        open_milvus()


@contextmanager
def guarded_milvus(data: Path, token: str) -> Iterator[str]:
    """Milvus Lite, which asks for no token by itself, behind the check that Milvus does: a header of each call."""
    import grpc
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from milvus_lite.db import MilvusLite
    from pymilvus.grpc_gen import milvus_pb2_grpc

    class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            given = dict(details.invocation_metadata).get("authorization")
            if given == base64.b64encode(token.encode()).decode():
                return continuation(details)

            def refuse(request: Any, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct")

            return grpc.unary_unary_rpc_method_handler(refuse)

    database = MilvusLite(str(data))
    server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=[Guard()])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        database.close()


def test_the_token(
    open_milvus: OpenMilvus, milvus: MilvusServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with guarded_milvus(tmp_path / "data", SECRET) as url:
        index = open_milvus(url=url, token=SECRET)
        index.apply(stored(3), 0, 3)
        assert keys_in(index) == [1, 2, 3]
        for wrong in (None, "root:a secret guess"):
            with pytest.raises(SettingsError, match="SEARCH_TOKEN") as caught:
                open_milvus(url=url, token=wrong)
            assert "secret" not in str(caught.value)
        index.close()
    written = "".join(capfd.readouterr())
    assert "secret" not in written and "Traceback" not in written
