"""How ids and names are written, wherever they come from: one form for what looks alike, and what none may have."""

from __future__ import annotations

import unicodedata

from shared.errors import InvalidRequest

MAX_ID = 256
MAX_NAME = 512

_INVISIBLE = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))
"""General categories of what a page does not show: text of nothing else is blank, also where it has no space."""

_LEAST_ACCENT = 10
"""Canonical combining class from which on a mark is an accent, a point or a tone. Those below make other letters: the
voicing marks of kana, and nukta and virama of the Indic scripts."""

# Letters that Unicode does not take apart, as people without that keyboard write them.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ŋ": "n"}
)


def composed(text: str) -> str:
    """Text in Unicode's normal form C: what looks alike because accents or syllables are composed is the same."""
    return unicodedata.normalize("NFC", text)


def normal_text(text: str) -> str:
    """Text composed, see ``storable``."""
    return composed(storable(text))


def storable(text: str) -> str:
    """Text as it is, if every database can hold it.

    Raises:
        InvalidRequest: it has a NUL character or is not valid Unicode.
    """
    if "\0" in text:
        raise InvalidRequest("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("must be valid Unicode") from None
    return text


def normal_id(text: str) -> str:
    """The id of a person, composed.

    Raises:
        InvalidRequest: it is empty, blank or too long; or no address can carry it, since clients and proxies resolve
            ``.`` and ``..`` and refuse control characters.
    """
    id = _within(normal_text(text), MAX_ID)
    if id in (".", "..") or any(unicodedata.category(character) == "Cc" for character in id):
        raise InvalidRequest("must not be . or .. and not contain control characters, which addresses cannot carry")
    return id


def normal_name(text: str) -> str:
    """The name of a person, a company or a thing, composed.

    Raises:
        InvalidRequest: it is empty, blank or too long.
    """
    return _within(normal_text(text), MAX_NAME)


def folded(text: str) -> str:
    """Text for searching: without regard to case, accents, width, and the ways of writing one letter.

    *Ägnes Müller* and *AGNES MULLER*, *Σοφία* and *σοφιας* but for its ending, *Straße* and *strasse*, *Işık* and
    *ISIK*, *Łódź* and *lodz* come to the same. Hangul is compared by syllables.
    """
    if text.isascii():  # most is; what follows would come to the same, and take ten times as long
        return text.lower()
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_PLAIN)
    plain = unicodedata.normalize("NFKD", plain)
    return composed("".join(one for one in plain if unicodedata.combining(one) < _LEAST_ACCENT))


def _within(text: str, most: int) -> str:
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        raise InvalidRequest("must not be empty or blank")
    if len(text) > most:
        raise InvalidRequest(f"at most {most} characters")
    return text
