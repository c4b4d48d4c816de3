"""Where somebody stands who follows what changes in a gallery."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.times import moment_of, time_text

_MARK = re.compile("[0-7]?[0-9a-f]{1,15}")


@dataclass(frozen=True)
class Cursor:
    """How far a follower has come.

    Attributes:
        since: revision up to which they have everything; 0 for one who has nothing yet.
        begun: the last revision there was when they had nothing, so that they hold nothing of what was deleted until
            then.
        mark: of the position of the database then (``gallery.sql.history``), 0 where it is not known.
    """

    since: int = 0
    begun: int = 0
    mark: int = 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What ``str`` gave, or any time (``moment_of``); an empty text is the beginning.

        Raises:
            ValueError: it is neither; says what it must be.
        """
        if not text:
            return cls()
        times, semicolon, mark = text.partition(";")
        since, slash, begun = times.partition("/")
        if semicolon and not _MARK.fullmatch(mark):
            raise ValueError("must be a cursor as it was given, or a time")
        return cls(moment_of(since), moment_of(begun) if slash else 0, int(mark, 16) if semicolon else 0)

    def __str__(self) -> str:
        """A time, or two with a slash between them until everything has come that was there at the beginning; then
        the mark in hexadecimal digits, after a semicolon."""
        text = time_text(self.since)
        if self.since < self.begun:
            text += f"/{time_text(self.begun)}"
        return f"{text};{self.mark:x}" if self.mark else text
