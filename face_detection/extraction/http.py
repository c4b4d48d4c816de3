"""One call to one extraction worker over HTTP: what its answers and its failures mean."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp

from face_detection.extraction.workers import Worker, Workers
from shared import wire
from shared.errors import (
    DeadlinePassed,
    ExtractionFailed,
    ExtractionUnavailable,
    LivenessUnavailable,
    NotFound,
    Overloaded,
    ServiceError,
)
from shared.logs import request_id

_CHUNK = 1 << 18
"""Bytes of a model's file that are passed on at once."""

_CONNECT_SECONDS = 3.0
"""A machine that is gone does not even refuse; its system repeats a lost first packet after one second."""


class NotHere(Exception):
    """A worker did not do what it was asked for, and another one may.

    Attributes:
        error: what to raise when none does.
    """

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.message)
        self.error = error


class WorkerCalls:
    """Calls workers, and tells ``workers`` how it went. Lives in one event loop.

    Args:
        workers: those that are called.
        timeout: seconds, for messages, and for a file the longest silence.
    """

    def __init__(self, workers: Workers, timeout: float) -> None:
        self._workers = workers
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        worker: Worker,
        method: str,
        path: str,
        deadline: float,
        *,
        body: bytes | None = None,
        space: str | None = None,
        again: bool = False,
    ) -> bytes:
        """The body of a worker's answer.

        Args:
            worker: who is asked.
            method, path: as in HTTP.
            deadline: of ``time.monotonic()``.
            body: an array, see ``shared.wire``.
            space: the embedding space that the answer must be of, if it names one.
            again: whether to call once more when no connection could be made or an idle one had been closed.

        Raises:
            NotHere: it cannot be reached, is not ready or busy, or serves another model.
            ExtractionFailed, DeadlinePassed: no other worker would be of help.
        """
        with self._workers.under_way(worker), self._failures(worker):
            try:
                response, answer = await self._exchange(worker, method, path, body, deadline)
            except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
                if not again:
                    raise
                response, answer = await self._exchange(worker, method, path, body, deadline)
        self._check(worker, response, space)
        return answer

    async def _exchange(
        self, worker: Worker, method: str, path: str, body: bytes | None, deadline: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._too_late()
        timeout = aiohttp.ClientTimeout(total=left, sock_connect=_CONNECT_SECONDS)
        async with await self._request(worker, method, path, body, timeout) as response:
            return response, await response.read()

    async def _request(
        self, worker: Worker, method: str, path: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {wire.REQUEST_ID_HEADER: request_id.get()} if request_id.get() else {}
        if body is not None:
            headers["Content-Type"] = wire.ARRAY_TYPE
        # aiohttp writes a stream in parts, and leaves the event loop room between them.
        data = None if body is None else io.BytesIO(body)
        return await self._open_session().request(
            method, worker.url + path, data=data, headers=headers, timeout=timeout
        )

    def _check(self, worker: Worker, response: aiohttp.ClientResponse, space: str | None) -> None:
        """Raise what an answer means if it is none of the kind that was asked for."""
        if response.status == 429:
            raise NotHere(Overloaded("The extraction service is busy."))
        if response.status in (502, 503):
            self._workers.unready(worker)
            raise NotHere(ExtractionUnavailable("The extraction service is not ready."))
        if response.status == 504:
            raise DeadlinePassed("The extraction service did not embed the faces in time.")
        if response.status == 400:  # another model wants crops of another size, or has other networks
            self._workers.forget(worker)
            raise NotHere(changed_model())
        if response.status == 501:  # another worker may have been started with it
            raise NotHere(LivenessUnavailable())
        if response.status == 421:
            raise ExtractionFailed(
                "The extraction service does not answer to its name in EXTRACTION_URL; add that to its ALLOWED_HOSTS."
            )
        if response.status != 200:
            raise ExtractionFailed(f"The extraction service answered with status {response.status}.")
        served = response.headers.get(wire.SPACE_HEADER)
        if served is not None:
            self._workers.answered(worker, served)
            if space not in (None, served):
                raise NotHere(changed_model())

    async def open_file(self, worker: Worker, method: str, space: str, network: str) -> aiohttp.ClientResponse:
        """A worker's answer whose body is the file of one of the model's networks, which is yet to be read.

        Raises:
            NotHere: as for ``call``, and also when this worker runs no ONNX file, as others may.
            ExtractionFailed, DeadlinePassed: as for ``call``.
        """
        # However slowly a client takes the file, only the service must not fall silent.
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=self._timeout)
        with self._failures(worker):
            response = await self._request(worker, method, f"/model/file?network={network}", None, timeout)
        try:
            if response.status == 404:
                raise NotHere(NotFound("The model cannot be handed out: the extraction service runs no ONNX file."))
            self._check(worker, response, space)
            if response.content_length is None:
                raise ExtractionFailed("The extraction service does not say how long the file is.")
        except BaseException:
            response.close()
            raise
        return response

    async def chunks(self, worker: Worker, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of such an answer in parts.

        Raises:
            ExtractionUnavailable, DeadlinePassed: the worker was lost, or fell silent.
        """
        try:
            with self._failures(worker):
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk
        except NotHere as failure:  # too late for another worker
            raise failure.error from failure

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    @contextmanager
    def _failures(self, worker: Worker) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
                self._workers.failed(worker, "it has not answered in time")
                raise self._too_late() from error
            self._workers.failed(worker, "it cannot be reached")
            unavailable = ExtractionUnavailable("The extraction service cannot be reached.")
            unavailable.__cause__ = error
            raise NotHere(unavailable) from error

    def _too_late(self) -> DeadlinePassed:
        return DeadlinePassed(f"The extraction service did not answer within {self._timeout:g} seconds.")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                auto_decompress=False,
            )
        return self._session


def changed_model() -> ExtractionUnavailable:
    """What to raise when a worker serves another model than the caller expects."""
    return ExtractionUnavailable("The extraction service has changed its model.")
