"""What clients send that is no HTTP: the pieces of each, and how services answer it."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

MALFORMED: Mapping[str, Sequence[bytes]] = {
    "bare line feeds": [b"GET /livez HTTP/1.1\nHost: localhost\n\n"],
    "bare line feeds with a body": [b"POST %s HTTP/1.1\nHost: localhost\nContent-Length: 2\n\n{}"],
    "one bare line feed": [b"GET /livez HTTP/1.1\r\nHost: localhost\n\r\n"],
    "an impossible method": [b"G@T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "NUL in a header": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-API-Key: fr_\0secret\r\n\r\n"],
    "NUL in the path": [b"GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "a header that is too large": [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + b"secret" * 9999 + b"\r\n\r\n"
    ],
    "too many headers": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 5000 + b"\r\n"],
    "a path that is too long": [b"GET /" + b"a" * 99999 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "an impossible version": [b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n"],
    "a header that is not ASCII": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-\xe9: fr_secret\r\n\r\n"],
    "nothing like a request": [b"no request at all\r\n\r\n"],
    "a line without a colon": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nfr_secret\r\n\r\n"],
    "two hosts": [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n"],
    "a length that is none": [HEAD + b"Content-Length: x\r\n\r\n"],
    "a negative length": [HEAD + b"Content-Length: -5\r\n\r\n"],
    "length and chunks": [HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    "an impossible chunk": [CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"],
    "an impossible second chunk": [CHUNKED + b"2\r\n{ \r\n", b"zz\r\n}\r\n0\r\n\r\n"],
}


def answer_to(url: str, path: str, pieces: Sequence[bytes]) -> tuple[int, str | None]:
    """Status of the answer, and the code of the error in it, if it has the form of the service's errors."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        for number, piece in enumerate(pieces):
            time.sleep(0.1 * number)
            connection.sendall(piece.replace(b"%s", path.encode()))
        with connection.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            length = 0
            while (line := answer.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            body = answer.read(length)
    assert b"secret" not in body
    error = json.loads(body)["error"]
    return status, error["code"]


def leave_in_the_middle(url: str, path: str, kind: str, body: bytes, how: str) -> None:
    """Send a part of a request and go: ``closed``, ``reset``, or ``half closed`` and then closed."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        length = "Transfer-Encoding: chunked" if body.startswith(b"a\r\n") else "Content-Length: 3000"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(0.2)  # so that the body is being read
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half closed":
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1 << 16)
