"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How something is; ``NOTE`` may be meant so."""

    WELL = "ok"
    NOTE = "note"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Finding:
    """How one thing is.

    Attributes:
        what: was looked at.
        state: how it is.
        found: in words.
        advice: what to do, empty when there is nothing to do.
    """

    what: str
    state: State
    found: str
    advice: str = ""

    def row(self) -> dict[str, str]:
        """The finding as JSON."""
        return {"what": self.what, "state": self.state.lower(), "found": self.found, "advice": self.advice}
