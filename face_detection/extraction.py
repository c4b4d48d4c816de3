"""Client of the extraction service."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import numpy as np
from numpy.typing import NDArray

from shared import wire
from shared.errors import (
    DeadlinePassed,
    ExtractionFailed,
    ExtractionUnavailable,
    InvalidRequest,
    NotFound,
    Overloaded,
    SettingsError,
)
from shared.logs import request_id
from shared.models import ModelCard, find_card

_CHUNK = 1 << 18
"""Bytes of a model's file that are passed on at once."""


@dataclass(frozen=True)
class ServedModel:
    """The model that the extraction service serves.

    Attributes:
        card: its card in the catalogue.
        revision: of the weights.
        max_crops: most crops in one call.
        engine, device: what runs it, for people.
    """

    card: ModelCard
    revision: str
    max_crops: int
    engine: str
    device: str

    @property
    def space(self) -> str:
        """The embedding space of everything that this model gives."""
        return self.card.space(self.revision)


@dataclass(frozen=True)
class ModelFile:
    """The ONNX file of the model that is served.

    Attributes:
        sha256: of the whole file, in hexadecimal digits.
        size: in bytes.
        chunks: the bytes, in parts.
    """

    sha256: str
    size: int
    chunks: AsyncIterator[bytes]


class ExtractionClient:
    """Asks the extraction service for embeddings. Lives in one event loop.

    Args:
        url: base address.
        timeout: seconds within which one call must be answered.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._model: ServedModel | None = None

    async def model(self) -> ServedModel:
        """The model that is served; asked for once, and again after the service was lost.

        Raises:
            ExtractionUnavailable, ExtractionFailed, DeadlinePassed: it cannot be told.
        """
        if self._model is None:
            self._model = _served_model(await self._call("GET", "/model", None, None))
        return self._model

    async def embed(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        """Embed crops that were cut out for ``model``.

        Args:
            crops: (n, height, width, 3) uint8 BGR.
            model: what ``model()`` gave.

        Returns:
            (n, dimensions) float32.

        Raises:
            ExtractionUnavailable: not reachable, not ready, or it now serves another model.
            ExtractionFailed: it answered with an error or with nonsense.
            Overloaded, DeadlinePassed: see ``shared.errors``.
        """
        parts = [
            await self._embed_part(crops[start : start + model.max_crops], model)
            for start in range(0, len(crops), model.max_crops)
        ]
        if not parts:
            return np.empty((0, model.card.dimensions), np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @asynccontextmanager
    async def model_file(self, model: ServedModel, method: Literal["GET", "HEAD"] = "GET") -> AsyncIterator[ModelFile]:
        """The model's file, for as long as the context is open; with HEAD without its bytes.

        Args:
            model: what ``model()`` gave.
            method: as in HTTP.

        Raises:
            NotFound: the service runs no ONNX file.
            ExtractionUnavailable, ExtractionFailed, DeadlinePassed: as for ``embed``; also while ``chunks`` are read.
        """
        headers = {wire.REQUEST_ID_HEADER: request_id.get()} if request_id.get() else {}
        # However slowly a client takes the file, only the service must not fall silent.
        timeout = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=self._timeout)
        call = self._open_session().request(method, f"{self._url}/model/file", headers=headers, timeout=timeout)
        with self._failures():
            response = await call
        async with response:
            if response.status == 404:
                raise NotFound("The model cannot be handed out: the extraction service runs no ONNX file.")
            served = response.headers.get(wire.SPACE_HEADER)
            if response.status in (502, 503) or (response.status == 200 and served != model.space):
                self._model = None
                raise ExtractionUnavailable("The extraction service is not ready, or has changed its model.")
            if response.status != 200 or response.content_length is None:
                raise ExtractionFailed(f"The extraction service answered with status {response.status}.")
            sha256 = response.headers.get("ETag", "").strip('"')
            yield ModelFile(sha256, response.content_length, self._chunks(response))

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with self._failures():
            async for chunk in response.content.iter_chunked(_CHUNK):
                yield chunk

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise DeadlinePassed(f"The extraction service did not answer within {self._timeout:g} seconds.") from error
        except aiohttp.ClientError as error:
            self._model = None
            raise ExtractionUnavailable("The extraction service cannot be reached.") from error

    async def check_ready(self) -> None:
        """Return if the service is ready to embed, raise as ``model()`` does otherwise."""
        await self._call("GET", "/readyz", None, None)

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def _embed_part(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        body = await self._call("POST", "/embeddings", wire.encode_array(crops), model.space)
        try:
            return wire.decode_array(body, dtype=np.float32, shape=(len(crops), model.card.dimensions))
        except InvalidRequest as error:
            raise ExtractionFailed("The extraction service did not answer with embeddings.") from error

    async def _call(self, method: str, path: str, body: bytes | None, space: str | None) -> bytes:
        """One call; repeated once when no connection could be made, since then nothing was processed."""
        with self._failures():
            try:
                return await self._call_once(method, path, body, space)
            except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
                return await self._call_once(method, path, body, space)

    async def _call_once(self, method: str, path: str, body: bytes | None, space: str | None) -> bytes:
        headers = {wire.REQUEST_ID_HEADER: request_id.get()} if request_id.get() else {}
        if body is not None:
            headers["Content-Type"] = wire.ARRAY_TYPE
        # aiohttp writes a stream in parts, and leaves the event loop room between them.
        data = None if body is None else io.BytesIO(body)
        async with self._open_session().request(method, self._url + path, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status == 429:
                raise Overloaded("The extraction service is busy.")
            if response.status in (502, 503):
                self._model = None
                raise ExtractionUnavailable("The extraction service is not ready.")
            if response.status == 504:
                raise DeadlinePassed("The extraction service did not embed the faces in time.")
            served = response.headers.get(wire.SPACE_HEADER)
            # A changed model may want crops of another size, which it refuses with 400: ask it again either way.
            if response.status == 400 or (space is not None and served is not None and served != space):
                self._model = None
                raise ExtractionUnavailable("The extraction service has changed its model.")
            if response.status != 200:
                raise ExtractionFailed(f"The extraction service answered with status {response.status}.")
            return answer

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                auto_decompress=False,
            )
        return self._session


def _served_model(body: bytes) -> ServedModel:
    try:
        answer: dict[str, Any] = json.loads(body)
        card = find_card(answer["model"])
        model = ServedModel(
            card, str(answer["revision"]), int(answer["max_crops"]), str(answer["engine"]), str(answer["device"])
        )
        described = (answer["space"], answer["dimensions"], answer["width"], answer["height"])
    except (ValueError, KeyError, TypeError, SettingsError) as error:
        raise ExtractionFailed("The extraction service serves a model that this front does not know.") from error
    if described != (model.space, card.dimensions, card.alignment.width, card.alignment.height):
        raise ExtractionFailed("The extraction service describes its model otherwise than this front's catalogue.")
    return model
