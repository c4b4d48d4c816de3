"""Pictures to look at: faces with boxes and names, or made unrecognisable. No HTTP here.

Names are written with the fonts that the machine has (DejaVu, Liberation, Noto and a few more are looked for), else
with the one that Pillow brings, which has ASCII only. What no font can write loses its accents, and where that does
not help, the face's number in reading order takes the name's place: a row of empty boxes would tell nobody apart.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.errors import TooManyPixels
from shared.geometry import Box
from shared.images import Pixels

Mask = Literal["unknown", "all"]

_KNOWN, _UNKNOWN = (40, 120, 40), (90, 90, 90)
"""Colours of boxes, BGR; white text is legible on both."""

_CELLS = 5
"""A masked face is reduced to this many colours a side, which are all that is left of it."""

_MARGIN = 0.3
"""By which a mask reaches beyond the face, as a part of its longer side: hair, ears and chin go too."""

_LONGEST_SIDE = 65_500
"""Of a JPEG, see libjpeg's JPEG_MAX_DIMENSION."""

_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "FreeSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "unifont.ttf",
)
"""Pillow looks for them wherever the system keeps fonts."""

_ABSENT = "\uffff"
"""Not a character, so every font shows its sign for missing ones."""

Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Mark:
    """A face in a picture; ``name`` is None for an unknown one."""

    box: Box
    name: str | None


def marked_jpeg(pixels: Pixels, marks: Sequence[Mark], draw: bool, mask: Mask | None) -> bytes:
    """A picture with its faces marked, as a JPEG file.

    Args:
        pixels: (height, width, 3) uint8 BGR; is drawn upon.
        marks: in reading order.
        draw: whether to draw boxes and names.
        mask: whose faces to destroy.

    Raises:
        TooManyPixels: a side is longer than a JPEG's may be.
    """
    if max(pixels.shape) > _LONGEST_SIDE:
        raise TooManyPixels(f"A side of the image is longer than {_LONGEST_SIDE} pixels, which no JPEG can be.")
    for mark in marks:
        if mask == "all" or (mask == "unknown" and mark.name is None):
            destroy(pixels, mark.box)
    if draw:
        # After all masks, which would cover the names of those near by.
        for number, mark in enumerate(marks, 1):
            annotate(pixels, mark, number)
    _, encoded = cv2.imencode(".jpg", pixels)
    return encoded.tobytes()


def destroy(pixels: Pixels, box: Box) -> None:
    """Replace a face and what is around it by a blur of ``_CELLS`` x ``_CELLS`` averages."""
    margin = round(_MARGIN * max(box.width, box.height))
    left, top = max(0, box.x - margin), max(0, box.y - margin)
    # What ends before the picture begins would otherwise be counted from the picture's far end.
    bottom, right = max(0, box.y + box.height + margin), max(0, box.x + box.width + margin)
    part = pixels[top:bottom, left:right]
    height, width = part.shape[:2]
    if height and width:
        cells = cv2.resize(part, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)


def annotate(pixels: Pixels, mark: Mark, number: int) -> None:
    """Draw a face's box and above it, or where there is room, its name; ``number`` stands in for what is illegible."""
    box, colour = mark.box, _UNKNOWN if mark.name is None else _KNOWN
    thickness = max(2, box.width // 80)
    cv2.rectangle(pixels, (box.x, box.y), (box.x + box.width, box.y + box.height), colour, thickness)
    height, width = pixels.shape[:2]
    size = min(max(14, box.width // 6), 64)
    most = min(width, max(3 * box.width, 10 * size))
    label = _label("unknown" if mark.name is None else mark.name, number, size, colour, most)[:height, :width]
    top = min(max(0, box.y - label.shape[0]), height - label.shape[0])
    left = min(max(0, box.x), width - label.shape[1])
    pixels[top : top + label.shape[0], left : left + label.shape[1]] = label


def _label(name: str, number: int, size: int, colour: tuple[int, int, int], most: int) -> Pixels:
    """White text on a ground, at most about ``most`` pixels wide; (height, width, 3) uint8 BGR."""
    text, font = legible(name, number, size)
    edge = size // 4
    text = _shortened(text, font, max(most - 2 * edge, size))
    ascent, descent = font.getmetrics()
    label = Image.new("RGB", (int(font.getlength(text)) + 2 * edge, ascent + descent + edge), colour[::-1])
    ImageDraw.Draw(label).text((edge, edge // 2), text, (255, 255, 255), font)
    return np.asarray(label, np.uint8)[:, :, ::-1]


def legible(name: str, number: int, size: int) -> tuple[str, Font]:
    """What to write for a name, and with which font.

    Args:
        name: whatever somebody was called.
        number: written where no font has the name's letters.
        size: of the font, in pixels.
    """
    name = " ".join("".join(" " if unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in name).split())
    bare = "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
    for text in (unicodedata.normalize("NFC", name), bare):
        for index, font in enumerate(_fonts()):
            if text and all(_has(index, letter) for letter in text):
                return text, font.font_variant(size=size)
    return f"#{number}", _fonts()[-1].font_variant(size=size)


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    too_long = bisect_right(range(len(text)), float(width), key=lambda end: font.getlength(text[:end] + "..."))
    return text[: max(1, too_long - 1)] + "..."


@cache
def _fonts() -> tuple[Font, ...]:
    """The fonts that there are; the last one comes with Pillow."""
    found = []
    for name in _FONTS:
        try:
            found.append(ImageFont.truetype(name))
        except OSError:
            continue
    own = ImageFont.load_default(10)
    assert isinstance(own, Font), "Pillow was built without FreeType"
    return (*found, own)


@lru_cache(65_536)
def _has(index: int, letter: str) -> bool:
    """Whether a font has a letter; what cannot be seen needs none."""
    if letter.isspace() or unicodedata.category(letter) == "Cf":
        return True
    font = _fonts()[index]
    return bytes(font.getmask(letter)) != bytes(font.getmask(_ABSENT))
