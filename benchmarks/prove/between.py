"""A TCP proxy that is slow, hangs or cuts connections when told to."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self


class Mood(StrEnum):
    """What the proxy does with what comes from the server."""

    HONEST = "passes all on"
    SLOW = "passes each piece on after a second"
    SILENT = "never answers"
    RUDE = "closes in the middle of an answer"


class Between:
    """Stands before a server on 127.0.0.1.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self.mood = Mood.HONEST
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            _end(connection)

    def _accept(self) -> None:
        with suppress(OSError):  # the end
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
                for source, target, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=(source, target, answers), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                mood = self.mood if answers else Mood.HONEST
                if mood is Mood.SILENT:
                    continue
                if mood is Mood.SLOW:
                    time.sleep(1)
                target.sendall(data[: len(data) // 2] if mood is Mood.RUDE else data)
                if mood is Mood.RUDE:
                    break
        for connection in (source, target):
            _end(connection)
            self._open.discard(connection)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
