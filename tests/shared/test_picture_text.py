"""Pictures as text: every spelling that occurs gives the very bytes, and the rest is told apart."""

from __future__ import annotations

import base64
import textwrap
from urllib.parse import parse_qsl, quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import ImageByReference, ImageTooLarge, UndecodableImage
from shared.images import ImageDecoder
from shared.picture_text import begins_picture, decode_text, is_text, plus_restored
from tests.pictures import encoded

MOST = 1 << 16
PICTURES = {
    kind: encoded(Image.fromarray(np.arange(48 * 3, dtype=np.uint8).reshape(6, 8, 3)), kind)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
}

CONTENTS = st.binary(min_size=1, max_size=300)
SPACES = st.text(" \t\r\n\u00a0\u2003", max_size=3)
PRELUDES = st.sampled_from(
    [
        "",
        "data:image/jpeg;base64,",
        "data:;base64,",
        "DATA:IMAGE/PNG;BASE64,",
        "data:image/jpeg;charset=utf-8;base64,",
        "data:image/jpeg; base64 ,",
        "image/png;base64,",
        ";base64,",
        "base64,",
    ]
)


@given(CONTENTS, PRELUDES, st.lists(SPACES, min_size=2, max_size=40), st.data())
def test_every_spelling_gives_the_very_bytes(
    content: bytes, prelude: str, spaces: list[str], draw: st.DataObject
) -> None:
    safe, padding, bom = (draw.draw(st.booleans()) for _ in range(3))
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(content).decode()
    text = text if padding else text.rstrip("=")
    middle = sorted(draw.draw(st.integers(0, len(text))) for _ in spaces[2:])
    for space, position in zip(spaces[2:], reversed(middle), strict=True):
        text = text[:position] + space + text[position:]
    sent = "\ufeff" * bom + spaces[0] + prelude + text + spaces[1]
    assert decode_text(sent, MOST) == content


@given(CONTENTS, PRELUDES, st.sampled_from(["", "/", "/:;,"]))
def test_what_is_escaped_as_in_an_address(content: bytes, prelude: str, kept: str) -> None:
    text = prelude.replace(" ", "") + base64.b64encode(content).decode()
    assert decode_text(quote(text, safe=kept), MOST) == content


@given(CONTENTS, PRELUDES, st.booleans())
def test_a_plus_that_was_not_escaped_in_a_form(content: bytes, prelude: str, spaced: bool) -> None:
    picture = PICTURES["JPEG"][:3] + content
    text = " " * spaced + prelude.replace(";", "%3B") + base64.b64encode(picture).decode().replace("=", "%3D")
    ((_, value),) = parse_qsl(f"image={text}", keep_blank_values=True)
    assert decode_text(plus_restored(value), MOST) == picture


@given(st.text(max_size=200))
def test_any_text_gives_bytes_or_an_error_of_ours(text: str) -> None:
    for sent in (text, plus_restored(text), f"data:{text}", f"data:image/png;base64,{text}", f"%{text}"):
        try:
            assert decode_text(sent, MOST)
        except UndecodableImage as error:
            assert len(error.message) < 250 and error.message.endswith(("…", "."))


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_as_bytes_may_be_text(kind: str) -> None:
    decoder, data = ImageDecoder(MOST, 10_000), PICTURES[kind]
    text = base64.b64encode(data)
    uri = b"data:image/x;base64," + text
    wrapped = "\n".join(textwrap.wrap(text.decode(), 76)).encode()
    for sent in (data, text, uri, b" \n" + uri, b"\xef\xbb\xbf" + uri, wrapped, base64.urlsafe_b64encode(data)):
        assert decoder.bytes_of(sent) == data
        assert is_text(sent) == (sent != data)
        assert all(begins_picture(sent[:length]) == (sent != data) for length in range(300, 360))


@given(st.binary(max_size=200))
def test_other_text_begins_no_picture(data: bytes) -> None:
    assert not begins_picture(b"G" * 4096)
    assert not begins_picture(b"http://example.org/photo.jpg")
    assert not begins_picture(data)
    assert not begins_picture(b"name=" + data)


@given(st.sampled_from([*PICTURES.values()]), st.binary(max_size=40))
def test_no_picture_is_taken_for_text(picture: bytes, more: bytes) -> None:
    assert not is_text(picture + more)
    assert ImageDecoder(MOST, 10_000).bytes_of(picture + more) == picture + more


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7\n",
        b"<!DOCTYPE html><title>Not found</title>",
        b'{"image": "AAAA"}',
        b"Not Found, sorry",
        b"P6\n9 9\n",
    ],
)
def test_other_files_are_no_text_of_a_picture(data: bytes) -> None:
    assert not is_text(data)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.org/photo.jpg",
        " \nhttps://example.org/photo?id=7&size=l\n",
        "HTTPS://EXAMPLE.ORG/A",
        "//example.org/photo.jpg",
        "www.example.org/photo",
        "ftp://example.org/a.png",
        "s3://bucket/key",
        "file:///home/me/photo.jpg",
        "content://media/external/images/7",
        "blob:http://127.0.0.1:6337/5f1c-4e",
        "/home/me/holiday photos/1.jpeg",
        "../photo.jpg",
        "photo.heic",
        "C:\\photos\\me.png",
        "/uploads/me.webp?v=2",
    ],
)
def test_an_address_is_not_fetched_and_the_error_says_so(text: str) -> None:
    for sent in (text, text.encode()):
        if isinstance(sent, str) or is_text(sent):
            with pytest.raises(ImageByReference, match="fetches nothing by itself") as caught:
                ImageDecoder(MOST, 10_000).bytes_of(sent)
            assert caught.value.code == "image_by_reference"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("data:image/png;base64,", "is empty"),
        (" \n", "is empty"),
        ("data:image/png,iVBORw0KGgo", "not of the form data:image/…;base64,…"),
        ("data:", "not of the form"),
        ("b'iVBORw0KGgo='", 'not valid base64: it has "\'"'),
        ("[object File]", "not valid base64: it has '['"),
        ("iVBORw0KGgoü", r"not valid base64: it has '\xfc'"),
        ("iVBORw0KGgoAA", "characters are missing"),
        ("iVBO=Rw0KGgo", "characters are missing"),
    ],
)
def test_what_is_no_base64_is_told(text: str, words: str) -> None:
    with pytest.raises(UndecodableImage) as caught:
        decode_text(text, MOST)
    assert words in caught.value.message and caught.value.code == "undecodable_image"


def test_the_limit_holds_in_every_spelling() -> None:
    data = bytes(range(256)) * 4
    text = base64.b64encode(data).decode()
    for sent in (text, "\n".join(text), quote(text, safe=""), f"data:image/jpeg;base64,{text}"):
        assert decode_text(sent, len(data)) == data
        with pytest.raises(ImageTooLarge):
            decode_text(sent, len(data) - 1)
    with pytest.raises(ImageTooLarge):
        decode_text("!" * (MOST * 3), MOST)
