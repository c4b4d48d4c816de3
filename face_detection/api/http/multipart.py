"""Multipart bodies as they come: each part is there as soon as its last byte is.

aiohttp's own reader looks ahead, so that a client which waits for an answer to a part before it sends the next would
wait for ever.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.utils import collapse_rfc2231_value

from shared.errors import InvalidRequest

_MAX_HEAD = 8192
_MAX_BOUNDARY = 70
_MAX_LENGTH_DIGITS = 15


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: that its Content-Disposition gives, or None.
        content: None for one of too many bytes, which was skipped.
    """

    name: str | None
    content: bytes | None


async def read_parts(content_type: str, chunks: AsyncIterator[bytes], limit: int) -> AsyncGenerator[Part]:
    """The parts of a multipart body.

    A part that announces its Content-Length ends with it, others at the boundary before the next one.

    Args:
        content_type: of the body, any multipart type.
        chunks: the body.
        limit: most bytes of a part.

    Raises:
        InvalidRequest: not well-formed.
    """
    source = _Source(content_type, chunks)
    await source.find(source.delimiter, _MAX_HEAD)
    while not await source.starts_with(b"--"):
        head = await source.find(b"\r\n\r\n", _MAX_HEAD)
        if head is None or head[:2] not in (b"", b"\r\n"):
            raise _malformed()
        headers = message_from_bytes(head.lstrip())
        length = str(headers.get("Content-Length", ""))
        if not length:
            yield _part(headers, await source.find(source.delimiter, limit))
            continue
        if not (length.isascii() and length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS):
            raise _malformed()
        yield _part(headers, await source.take(int(length), limit))
        if await source.find(source.delimiter, 0) != b"":
            raise _malformed()


class _Source:
    """What has come of a body and was not yet read."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        header = Message()
        header["Content-Type"] = content_type
        boundary = header.get_boundary()
        if not boundary or not boundary.isascii() or len(boundary) > _MAX_BOUNDARY:
            raise InvalidRequest("The multipart body has no boundary.")
        self.delimiter = b"\r\n--" + boundary.encode()
        # The first boundary has no line before it.
        self._waiting = bytearray(b"\r\n")
        self._chunks = chunks

    async def starts_with(self, mark: bytes) -> bool:
        """Whether a mark comes next."""
        while len(self._waiting) < len(mark):
            await self._more()
        return self._waiting.startswith(mark)

    async def find(self, end: bytes, limit: int) -> bytes | None:
        """Read until after ``end``; returns what comes before it, None for more than ``limit`` bytes."""
        start, skips = 0, False
        while (index := self._waiting.find(end, start)) < 0:
            start = max(0, len(self._waiting) - len(end) + 1)
            if start > limit:
                del self._waiting[:start]
                start, skips = 0, True
            await self._more()
        found = None if skips or index > limit else bytes(self._waiting[:index])
        del self._waiting[: index + len(end)]
        return found

    async def take(self, length: int, limit: int) -> bytes | None:
        """Read some bytes; returns them, None for more than ``limit``."""
        skips = length > limit
        while len(self._waiting) < length:
            if skips:
                length -= len(self._waiting)
                self._waiting.clear()
            await self._more()
        taken = None if skips else bytes(self._waiting[:length])
        del self._waiting[:length]
        return taken

    async def _more(self) -> None:
        try:
            self._waiting += await anext(self._chunks)
        except StopAsyncIteration:
            raise _malformed() from None


def _part(headers: Message, content: bytes | None) -> Part:
    name = headers.get_param("name", header="Content-Disposition")
    return Part(None if name is None else collapse_rfc2231_value(name), content)


def _malformed() -> InvalidRequest:
    return InvalidRequest("The multipart body is not well-formed.")
