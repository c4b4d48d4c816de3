"""Extraction workers that do what a test wants, over real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from face_detection.extraction.client import ServedModel
from shared import wire
from shared.models import find_card

CARD = find_card("facenet")
MODEL: dict[str, Any] = {
    "model": "facenet",
    "revision": "abc",
    "space": CARD.space("abc"),
    "dimensions": 128,
    "width": 160,
    "height": 160,
    "max_crops": 3,
    "engine": "onnx",
    "device": "cpu",
    "liveness": None,
}
SERVED = ServedModel(CARD, "abc", 3, "onnx", "cpu")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeWorker:
    """A server whose routes a test may replace; by default an embedding is the crop's first pixels."""

    def __init__(self, revision: str = "abc", max_crops: int = 3) -> None:
        self.calls: list[str] = []
        self.described = MODEL | {"revision": revision, "space": CARD.space(revision), "max_crops": max_crops}
        self.model: Handler = self.describe
        self.embeddings: Handler = self.embed
        self.ready: Handler = replying()
        self.file: Handler = replying(404)
        self.liveness: Handler = replying(501)
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self.answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        """Its address, once it was started."""
        return str(self.server.make_url("/"))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        routes = {
            "/model": self.model,
            "/embeddings": self.embeddings,
            "/readyz": self.ready,
            "/model/file": self.file,
            "/liveness": self.liveness,
        }
        return await routes[request.path](request)

    async def describe(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.described)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        crops = wire.decode_array(await request.read(), dtype=np.uint8, shape=(None, 160, 160, 3))
        rows = crops.reshape(len(crops), -1)[:, :128].astype(np.float32)
        return web.Response(body=wire.encode_array(rows), headers={wire.SPACE_HEADER: self.described["space"]})

    async def check(self, request: web.Request) -> web.StreamResponse:
        """The liveness check: the score of a face is its first pixel."""
        views = wire.decode_array(await request.read(), dtype=np.uint8, shape=(None, 2, 80, 80, 3))
        return web.Response(body=wire.encode_array(views[:, 0, 0, 0, 0].astype(np.float32) / 255))

    def serve(self, revision: str) -> None:
        """Serve another revision of the model."""
        self.described = self.described | {"revision": revision, "space": CARD.space(revision)}


def replying(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, body=body, headers=headers)

    return handler
