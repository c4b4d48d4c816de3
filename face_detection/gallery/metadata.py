"""Finding people by what their metadata say.

A condition names a place in the metadata, member by member, and a value. Databases only narrow down whom to look at: to
those whose metadata, as text, have what they must have. What JSON means is decided here, for all databases alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from face_detection.naming import composed
from shared.errors import InvalidRequest

MOST_CONDITIONS = 16
_MOST_CHARACTERS = 512


@dataclass(frozen=True)
class Condition:
    """A place in metadata and what has to stand there.

    Attributes:
        path: names of members, from the outside in; none stands for the metadata as a whole. A name may have dots, so
            neighbours in the path may be one name together. In an array each element is looked at.
        value: a text equals this, or what stands there is the number, ``true``, ``false`` or ``null`` that this
            denotes; in quotation marks it is a text in any case.
    """

    path: tuple[str, ...]
    value: str

    @classmethod
    def of(cls, path: str | None, value: str) -> Condition:
        """A condition on what is at a path with dots, or on the metadata as a whole.

        Raises:
            InvalidRequest: there is an empty name in the path, or one of the two is too long.
        """
        if path is None:
            return cls((), value)
        names = tuple(path.split("."))
        if not all(names):
            raise InvalidRequest(f"metadata.{path[:50]}: must name a member of the metadata.")
        if max(len(path), len(value)) > _MOST_CHARACTERS:
            raise InvalidRequest(f"metadata.{path[:50]}: path and value have at most {_MOST_CHARACTERS} characters.")
        return cls(names, value)

    def fragments(self) -> list[str]:
        """What the JSON text of metadata that match has in it, however it was written."""
        denoted = _denoted(self.value)
        texts = [self.value] if denoted is _NOTHING else [denoted] if isinstance(denoted, str) else []
        return [text for text in (*self.path[-1:], *texts) if text.isascii() and json.dumps(text) == f'"{text}"']

    def matches(self, metadata: Any) -> bool:
        """Whether metadata are so."""
        return _has(metadata, [composed(name) for name in self.path], composed(self.value), _denoted(self.value))


def fragments(conditions: Sequence[Condition]) -> list[str]:
    """What the JSON text of metadata has in it that match all conditions."""
    return [text for condition in conditions for text in condition.fragments()]


_NOTHING = object()


def _denoted(value: str) -> Any:
    """What a value is as JSON, if that is no array and no object; else ``_NOTHING``."""
    try:
        denoted = json.loads(value, parse_constant=lambda _: _NOTHING)
    except (ValueError, RecursionError):
        return _NOTHING
    return _NOTHING if isinstance(denoted, list | dict) else denoted


def _has(metadata: Any, path: Sequence[str], text: str, denoted: Any) -> bool:
    if isinstance(metadata, list):
        return any(_has(element, path, text, denoted) for element in metadata)
    if not path:
        return _is(metadata, text, denoted)
    if not isinstance(metadata, dict):
        return False
    return any(
        _has(value, path[count:], text, denoted)
        for name, value in metadata.items()
        for count in range(1, len(path) + 1)
        if composed(name) == ".".join(path[:count])
    )


def _is(found: Any, text: str, denoted: Any) -> bool:
    if isinstance(found, str):
        return composed(found) == (composed(denoted) if isinstance(denoted, str) else text)
    if isinstance(found, bool) or found is None:
        return denoted is found
    if isinstance(found, dict) or isinstance(denoted, bool) or not isinstance(denoted, int | float):
        return False
    return bool(found == denoted)
