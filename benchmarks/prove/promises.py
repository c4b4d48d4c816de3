"""What a section of the proof finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Promise:
    """A promise and what became of it.

    Attributes:
        text: what is promised.
        figure: what was seen.
        kept: None where it could not be tried here; the figure says why.
    """

    text: str
    figure: str
    kept: bool | None

    @classmethod
    def none_of(cls, text: str, found: Sequence[str], of: str) -> Promise:
        """A promise that nothing of a kind is found; the first findings are named.

        Args:
            text: what is promised.
            found: a line for each.
            of: among what they were looked for.
        """
        named = "".join(
            f"; {one}{f' ({times} times)' if times > 1 else ''}" for one, times in Counter(found).most_common(5)
        )
        return cls(text, f"{len(found)} of {of}{named}", not found)


@dataclass
class Findings:
    """Of a section.

    Attributes:
        promises: in the order of the report.
        notes: Markdown below them.
    """

    promises: list[Promise] = field(default_factory=list)
    notes: str = ""

    @property
    def broken(self) -> bool:
        """Whether a promise is."""
        return any(promise.kept is False for promise in self.promises)


def table(promises: Iterable[Promise]) -> str:
    """A Markdown table with a line for each promise."""
    words = {True: "kept", False: "**BROKEN**", None: "not tried"}
    lines = ["| promise | seen | |", "|---|---|---|"]
    for promise in promises:
        cells = (promise.text, promise.figure, words[promise.kept])
        lines.append(f"| {' | '.join(cell.replace('|', '∣').replace(chr(10), ' ') for cell in cells)} |")
    return "\n".join(lines)
