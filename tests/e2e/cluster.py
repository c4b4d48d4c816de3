"""Several of everything on this machine: fronts and extraction workers behind HAProxy, over one PostgreSQL."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.servers.haproxy import HAProxy
from deploy.servers.waiting import wait_until
from shared.service_process import ServiceProcess, free_port
from tests.e2e.remembering import RememberingExtraction


class Cluster:
    """Two fronts, three extraction workers and HAProxy before both, as real processes on free ports.

    Args:
        environment: settings of all of them, DATABASE and SEARCH among them.
        folder: for their logs.
        balanced: whether the fronts reach the workers through HAProxy; otherwise they are given all addresses.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, balanced: bool = False) -> None:
        workers = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        fronts = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self._stack = ExitStack()
        self._folder = folder
        self._addresses = (fronts, workers)
        self._environment = dict(environment)
        self._balanced = balanced
        self.workers = [
            # What a known crop takes is what dlib's network takes for one.
            RememberingExtraction(bind, self._environment, folder / f"worker{n}.log", seconds=0.008)
            for n, bind in enumerate(workers, 1)
        ]
        self.fronts: list[ServiceProcess] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            fronts, workers = self._addresses
            for worker in self.workers:
                stack.callback(worker.stop)
                worker.start()
            self.balancer = stack.enter_context(HAProxy(fronts, workers, self._folder / "haproxy.log"))
            urls = self.balancer.extraction_url if self._balanced else ",".join(f"http://{one}" for one in workers)
            for number, bind in enumerate(fronts, 1):
                environment = self._environment | {"FRONT_BIND": bind, "EXTRACTION_URL": urls}
                front = ServiceProcess("face_detection", bind, environment, self._folder / f"front{number}.log")
                stack.callback(front.stop)
                self.fronts.append(front)
                front.start()
            for service in (*self.workers, *self.fronts):
                service.wait_until_ready(180)
            self.wait_for_balancer()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_for_balancer(self) -> None:
        """Wait until HAProxy sends requests to every server, each of which must be ready."""
        wait_until(self._balancer_has_all, self.balancer.text)

    def _balancer_has_all(self) -> bool:
        states = dict(re.findall(r"Server (\w+/\w+) is (UP|DOWN)", self.balancer.text()))
        return "DOWN" not in states.values()

    @property
    def url(self) -> str:
        """Where clients reach it: HAProxy before the fronts."""
        return self.balancer.fronts_url


def kill(service: ServiceProcess) -> None:
    """kill -9 of a service with all its processes."""
    os.killpg(service.pid, signal.SIGKILL)
    service.stop()


@contextmanager
def paused(service: ServiceProcess) -> Iterator[None]:
    """Halt a service with all its processes for a while."""
    os.killpg(service.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(service.pid, signal.SIGCONT)
