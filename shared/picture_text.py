"""Pictures that clients wrote down as text: data URIs (RFC 2397) and base64 (RFC 4648), in the spellings that occur.

What is unambiguous is taken: white space anywhere, a byte order mark, the URL-safe alphabet, escapes of a URI, and
padding that lacks or is too much. What else it is, the error tells.
"""

from __future__ import annotations

import binascii
import re
import string

import pybase64

from shared.errors import ImageByReference, ImageTooLarge, UndecodableImage
from shared.formats import LONGEST_SIGNATURE, format_of

_BOM = b"\xef\xbb\xbf"

_PRELUDE = re.compile(r"[\s\ufeff]*(?:[^,]{0,200}?base64\s*,)?", re.IGNORECASE)
"""What stands before base64; some clients leave ``data:`` away, or the type."""

_LOOKS_LIKE_TEXT = re.compile(rb"(?:%s)?\s*[\w+/.;:=%%-]{12}" % _BOM)
"""The beginning of base64, of a data URI, of an address; not that of prose, of markup or of JSON."""

_CUT_ESCAPE = re.compile(r"%[0-9A-Fa-f]?\Z")

_MOST_REFERENCE = 4096
_REFERENCE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:|//|www\.)\S+"  # an address, or a path of Windows
    r"|[^\r\n]+\.[a-z0-9]{3,5}(?:[?#]\S*)?",  # the name of a file
    re.IGNORECASE,
)

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_=%\s-]")


def is_text(data: bytes) -> bool:
    """Whether what came as bytes looks like a picture that is written down as text, and not like anything else."""
    if format_of(data) is not None or not _LOOKS_LIKE_TEXT.match(data):
        return False
    return data.removeprefix(_BOM).isascii()


def begins_picture(start: bytes) -> bool:
    """Whether what begins with these bytes, some hundred of them or all, is a picture that is written down as text."""
    if not is_text(start):
        return False
    text = _CUT_ESCAPE.sub("", start.decode())
    try:
        content = _plainly(text)
        return format_of(_decode(content[: 2 * LONGEST_SIGNATURE])) is not None
    except ValueError:
        return False


def decode_text(text: str, max_bytes: int) -> bytes:
    """The bytes of a picture that is written down as text.

    Raises:
        ImageTooLarge: more than ``max_bytes``.
        ImageByReference: it only says where the picture is.
        UndecodableImage: not base64, or empty.
    """
    # A generous bound first: line breaks and escapes may add to the length, but do not double it.
    if len(text) > max_bytes * 8 // 3 + 256:
        raise too_large(max_bytes)
    try:
        data = _decode(text[_start_of(text) :])
    except ValueError:
        try:
            data = _decode(_plainly(text))
        except ValueError:
            raise _refusal(text) from None
    if not data:
        raise UndecodableImage("The image is empty.")
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


def too_large(max_bytes: int) -> ImageTooLarge:
    """The error for a picture of more bytes than that."""
    return ImageTooLarge(f"The encoded image has more than {max_bytes} bytes.")


def percent_decoded(data: bytes) -> bytes:
    """Bytes without the escapes of a URI, which must be complete."""
    # As quoted-printable, which differs in the sign only: urllib would make an object of every escape, hundreds of
    # bytes for each three of a picture.
    return binascii.a2b_qp(data.replace(b"=", b"%3D").replace(b"%", b"="))


def plus_restored(text: str) -> str:
    """A picture of an urlencoded form: clients forget to escape the "+" of base64, which then means a space."""
    start = _start_of(text)
    # No picture begins with one, and behind the padding there is none.
    content = re.sub(r"=\s+\Z", "=", text[start:].lstrip())
    return text[:start] + content.replace(" ", "+")


def _start_of(text: str) -> int:
    """Where the base64 begins."""
    prelude = _PRELUDE.match(text)
    assert prelude is not None  # the empty text matches, too
    return prelude.end()


def _plainly(text: str) -> str:
    """The base64 of a text in its proper alphabet with its proper padding, if it is any."""
    if "%" in text:
        text = percent_decoded(text.encode()).decode()
    compact = "".join(text[_start_of(text) :].split()).rstrip("=").replace("-", "+").replace("_", "/")
    return compact + "=" * (-len(compact) % 4)


def _decode(base64: str) -> bytes:
    return pybase64.b64decode(base64, validate=True)


def _refusal(text: str) -> UndecodableImage:
    given = text.strip(string.whitespace + "\ufeff")
    is_uri = given[:5].lower() == "data:"
    if not is_uri and len(given) <= _MOST_REFERENCE and _REFERENCE.fullmatch(given):
        return ImageByReference(
            "The image is given by its address or its file's name, and the service fetches nothing by itself: "
            "send the picture, as a file or in base64."
        )
    content = given[_start_of(given) :]
    if is_uri and content[:5].lower() == "data:":
        return UndecodableImage("The data URI is not of the form data:image/…;base64,…")
    odd = _NOT_BASE64.search(content)
    return UndecodableImage(
        f"The image is not valid base64: {f'it has {odd.group()!a}' if odd else 'characters are missing'}."
    )
