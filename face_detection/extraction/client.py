"""Client of the extraction service: of one address, or of several workers among which calls are spread."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from face_detection.extraction.http import NotHere, WorkerCalls, changed_model
from face_detection.extraction.workers import Worker, Workers
from shared import wire
from shared.errors import (
    DeadlinePassed,
    ExtractionFailed,
    ExtractionUnavailable,
    InvalidRequest,
    Overloaded,
    ServiceError,
    SettingsError,
)
from shared.models import MINIFASNET, ModelCard, find_card

log = logging.getLogger(__name__)

T = TypeVar("T")

_ASK_SECONDS = 10.0
"""Within which a worker must say what it serves, which it does at once."""


@dataclass(frozen=True)
class ServedModel:
    """The model that the extraction service serves.

    Attributes:
        card: its card in the catalogue.
        revision: of the weights.
        max_crops: most crops in one call.
        engine, device: what runs it, for people.
        liveness: whether a worker was seen to have the liveness check.
    """

    card: ModelCard
    revision: str
    max_crops: int
    engine: str
    device: str
    liveness: bool = False

    @property
    def space(self) -> str:
        """The embedding space of everything that this model gives."""
        return self.card.space(self.revision)


def read_model(body: bytes) -> ServedModel:
    """Read the answer of ``GET /model``.

    Raises:
        ExtractionFailed: it is no such answer, or describes a model that the catalogue here does not have.
    """
    try:
        answer: dict[str, Any] = json.loads(body)
        card = find_card(answer["model"])
        model = ServedModel(
            card,
            str(answer["revision"]),
            int(answer["max_crops"]),
            str(answer["engine"]),
            str(answer["device"]),
            answer.get("liveness") == MINIFASNET.name,
        )
        described = (answer["space"], answer["dimensions"], answer["width"], answer["height"])
    except (ValueError, KeyError, TypeError, SettingsError) as error:
        raise ExtractionFailed("The extraction service serves a model that this front does not know.") from error
    if described != (model.space, card.dimensions, card.alignment.width, card.alignment.height):
        raise ExtractionFailed("The extraction service describes its model otherwise than this front's catalogue.")
    return model


@dataclass(frozen=True)
class ModelFile:
    """The ONNX file of a network of the model that is served.

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

    A call that a worker could not take (it cannot be reached, is starting, stopping or busy, or serves another model)
    is repeated on another, until each was tried once. With one address it is repeated once when no connection could be
    made or an idle one had been closed, since then nothing was processed.

    Args:
        urls: base addresses of the workers, at least one.
        timeout: seconds within which one call must be answered, repetitions included.
        observe: told the number of workers in each state, see ``workers``.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeout: float,
        observe: Callable[[Mapping[str, int]], None] = lambda states: None,
    ) -> None:
        self._workers = Workers(urls, observe)
        self._calls = WorkerCalls(self._workers, timeout)
        self._timeout = timeout
        self._served: dict[Worker, ServedModel] = {}
        self._model: ServedModel | None = None
        self._finding: asyncio.Task[ServedModel | ServiceError] | None = None
        self._tasks: set[asyncio.Task[ServedModel | ServiceError]] = set()

    async def model(self) -> ServedModel:
        """The model in use, that of the worker which answered first.

        It stays in use as long as any worker that serves it can be reached; then comes the one that most workers serve.

        Raises:
            ExtractionUnavailable, ExtractionFailed, DeadlinePassed: it cannot be told.
        """
        if self._model is None or self._workers.lost:
            # One search for all who wait: they get the same answer, and the workers are asked once.
            if self._finding is None or self._finding.done():
                self._finding = self._start(self._find())
            found = await asyncio.shield(self._finding)
            if isinstance(found, ServiceError):
                raise type(found)(found.message) from found.__cause__
            return found
        for worker in self._workers.due():
            self._start(self._ask(worker))
        return self._model

    async def embed(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        """Embed crops that were cut out for ``model``.

        Args:
            crops: (n, height, width, 3) uint8 BGR.
            model: what ``model()`` gave.

        Returns:
            (n, dimensions) float32.

        Raises:
            ExtractionUnavailable: no worker is reachable, ready and serves this model.
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

    async def examine(
        self, crops: NDArray[np.uint8], views: NDArray[np.uint8] | None, model: ServedModel
    ) -> tuple[NDArray[np.float32], list[float] | None]:
        """Embed crops, see ``embed``, and at the same time have faces checked for being real.

        Args:
            crops: as for ``embed``.
            views: (n, networks, size, size, 3) uint8 BGR, see ``shared.models.LivenessCard``; None checks nothing.
            model: what ``model()`` gave.

        Returns:
            The embeddings, and a score in [0, 1] for each face; None for nothing checked.

        Raises:
            LivenessUnavailable: no worker has the liveness check.
            ExtractionUnavailable, ExtractionFailed, Overloaded, DeadlinePassed: see ``embed``.
        """
        if views is None:
            return await self.embed(crops, model), None
        return await asyncio.gather(self.embed(crops, model), self._score(views, model))

    async def _score(self, views: NDArray[np.uint8], model: ServedModel) -> list[float]:
        scores: list[float] = []
        for start in range(0, len(views), model.max_crops):
            part = views[start : start + model.max_crops]
            body = await self._call("POST", "/liveness", model, wire.encode_array(part))
            try:
                scores += wire.decode_array(body, dtype=np.float32, shape=(len(part),)).tolist()
            except InvalidRequest as error:
                raise ExtractionFailed("The extraction service did not answer with scores.") from error
        return scores

    @asynccontextmanager
    async def model_file(
        self, model: ServedModel, network: str, method: Literal["GET", "HEAD"] = "GET"
    ) -> AsyncIterator[ModelFile]:
        """The file of one of a model's networks, for as long as the context is open; with HEAD without its bytes.

        Args:
            model: what ``model()`` gave.
            network: its name.
            method: as in HTTP.

        Raises:
            NotFound: the service runs no ONNX file.
            ExtractionUnavailable, ExtractionFailed, DeadlinePassed: as for ``embed``; also while ``chunks`` are read.
        """
        worker, response = await self._first(
            lambda worker: self._calls.open_file(worker, method, model.space, network), model
        )
        async with response:
            sha256 = response.headers.get("ETag", "").strip('"')
            yield ModelFile(sha256, response.content_length or 0, self._calls.chunks(worker, response))

    def look_again(self) -> None:
        """Ask all workers anew what they serve, in the background: one may have been started otherwise meanwhile."""
        for worker in self._workers.all:
            self._start(self._ask(worker))

    async def check_ready(self) -> None:
        """Return if a worker is ready to embed, raise as ``model()`` does otherwise."""
        model = await self.model()
        await self._call("GET", "/readyz", model)

    async def close(self) -> None:
        """Close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._calls.close()

    async def _find(self) -> ServedModel | ServiceError:
        """Ask every worker what it serves, and take a model into use."""
        asked = [self._start(self._ask(worker)) for worker in self._workers.all]
        found: list[ServedModel] = []
        errors: list[ServiceError] = []
        for answer in asyncio.as_completed(asked):
            model = await answer
            if isinstance(model, ServiceError):
                errors.append(model)
                continue
            found.append(model)
            if self._workers.space in (None, model.space):
                break
        if self._model is not None and not self._workers.lost:
            return self._model  # a worker that serves it has come back meanwhile
        if not found:
            return _most_telling(errors)
        (space, _), *_ = Counter(model.space for model in found).most_common()
        self._model = self._limited(next(model for model in found if model.space == space))
        self._workers.use(space)
        return self._model

    async def _ask(self, worker: Worker) -> ServedModel | ServiceError:
        """Ask a worker what it serves."""
        deadline = time.monotonic() + min(self._timeout, _ASK_SECONDS)
        try:
            model = read_model(await self._calls.call(worker, "GET", "/model", deadline, again=True))
        except NotHere as failure:
            return failure.error
        except ServiceError as error:
            self._workers.failed(worker, error.message)
            return error
        except Exception:  # nobody may be waiting for this, and a worker that stays asked is never asked again
            log.exception("asking an extraction worker has failed", extra={"worker": worker.address})
            self._workers.failed(worker, "it could not be asked")
            return ExtractionFailed("The extraction service could not be asked.")
        self._served[worker] = model
        self._workers.answered(worker, model.space)
        if self._model is not None and self._model.space == model.space:
            self._model = self._limited(self._model)
        return model

    def _limited(self, model: ServedModel) -> ServedModel:
        """The model with no more crops in one call than each worker that serves it takes."""
        alike = [one for one in self._served.values() if one.space == model.space]
        return replace(
            model, max_crops=min(one.max_crops for one in alike), liveness=any(one.liveness for one in alike)
        )

    async def _embed_part(self, crops: NDArray[np.uint8], model: ServedModel) -> NDArray[np.float32]:
        body = await self._call("POST", "/embeddings", model, wire.encode_array(crops))
        try:
            return wire.decode_array(body, dtype=np.float32, shape=(len(crops), model.card.dimensions))
        except InvalidRequest as error:
            raise ExtractionFailed("The extraction service did not answer with embeddings.") from error

    async def _call(self, method: str, path: str, model: ServedModel, body: bytes | None = None) -> bytes:
        """The answer of a worker that serves a model."""
        deadline = time.monotonic() + self._timeout
        again = len(self._workers.all) == 1
        _, answer = await self._first(
            lambda worker: self._calls.call(worker, method, path, deadline, body=body, space=model.space, again=again),
            model,
        )
        return answer

    async def _first(self, call: Callable[[Worker], Awaitable[T]], model: ServedModel) -> tuple[Worker, T]:
        """The first worker of those that may serve a model for which ``call`` succeeds, and its result."""
        tried: set[Worker] = set()
        errors: list[ServiceError] = []
        while worker := self._workers.choose(model.space, tried):
            tried.add(worker)
            try:
                return worker, await call(worker)
            except NotHere as failure:
                errors.append(failure.error)
        raise _most_telling(errors)

    def _start(self, work: Coroutine[Any, Any, ServedModel | ServiceError]) -> asyncio.Task[ServedModel | ServiceError]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _most_telling(errors: Sequence[ServiceError]) -> ServiceError:
    """What to raise when every worker has failed: rather what passes by itself. Without errors, no worker was left."""
    for kind in (Overloaded, ExtractionUnavailable, DeadlinePassed):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0] if errors else changed_model()
