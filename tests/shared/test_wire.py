from __future__ import annotations

import gc
import io
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy
from numpy.typing import NDArray

from shared import wire
from shared.errors import InvalidRequest, Overloaded

DTYPES = st.sampled_from([np.dtype(name) for name in ("u1", "<f4", "<f8", "<i8", ">f4", "?")])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


def npy_file(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    encoded = header.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(encoded))
    return b"\x93NUMPY" + bytes(version) + length + encoded + body


def header(shape: str = "(2, 3)", descr: str = "'|u1'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


def decode(data: bytes) -> NDArray[np.uint8]:
    return wire.decode_array(data, dtype=np.uint8, shape=(None, None))


@given(ARRAYS)
def test_what_is_encoded_comes_back(array: NDArray[np.generic]) -> None:
    found = wire.decode_array(wire.encode_array(array), dtype=array.dtype, shape=array.shape)
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@given(ARRAYS)
def test_any_memory_layout_is_encoded(array: NDArray[np.generic]) -> None:
    transposed = array.T
    found = wire.decode_array(wire.encode_array(transposed), dtype=array.dtype, shape=(None,) * array.ndim)
    np.testing.assert_array_equal(found, transposed)
    assert found.flags.c_contiguous


@given(ARRAYS.filter(lambda array: array.ndim > 1))
def test_fortran_order_is_understood(array: NDArray[np.generic]) -> None:
    stream = io.BytesIO()
    npy.write_array(stream, np.asfortranarray(array), allow_pickle=False)
    found = wire.decode_array(stream.getvalue(), dtype=array.dtype, shape=array.shape)
    np.testing.assert_array_equal(found, array)


@given(ARRAYS)
def test_numpy_reads_what_we_write(array: NDArray[np.generic]) -> None:
    np.testing.assert_array_equal(np.load(io.BytesIO(wire.encode_array(array)), allow_pickle=False), array)


def test_version_2_is_understood() -> None:
    found = decode(npy_file(header(), bytes(range(6)), (2, 0)))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_array_is_a_view_that_cannot_be_written() -> None:
    data = npy_file(header(), bytes(6))
    found = decode(data)
    assert not found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x93NUMPY", id="only the magic"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff{}", id="header shorter than its length"),
        pytest.param(b"PK\x03\x04" + bytes(60), id="npz"),
        pytest.param(npy_file(header("(2,)"), bytes(2)), id="too few axes"),
        pytest.param(npy_file(header("(1, 2, 3)"), bytes(6)), id="too many axes"),
        pytest.param(npy_file(header(descr="'<f4'"), bytes(24)), id="another type"),
        pytest.param(npy_file(header(descr="'|i1'"), bytes(6)), id="a type of the same size"),
        pytest.param(npy_file(header(descr="'|O'"), bytes(48)), id="objects"),
        pytest.param(npy_file(header(descr="[('a', '|u1')]"), bytes(6)), id="a structure"),
        pytest.param(npy_file(header(descr="'|u1', 'x'"), bytes(6)), id="nonsense for a type"),
        pytest.param(npy_file(header("(-2, -3)"), bytes(6)), id="negative lengths"),
        pytest.param(npy_file(header("(-1, 0)")), id="negative and nothing"),
        pytest.param(npy_file(header(f"({10**30}, 1)")), id="huge length"),
        pytest.param(npy_file(header(f"(0, {10**30})")), id="huge and nothing"),
        pytest.param(npy_file(header("(9223372036854775807, 9223372036854775807)"), b"\x01"), id="overflow"),
        pytest.param(npy_file(header("(2.0, 3)"), bytes(6)), id="a length that is no integer"),
        pytest.param(npy_file(header(), bytes(5)), id="truncated"),
        pytest.param(npy_file(header(), bytes(7)), id="trailing byte"),
        pytest.param(npy_file(header(), bytes(6), (3, 0)), id="version 3"),
        pytest.param(npy_file(header(), bytes(6), (9, 9)), id="version 9"),
        pytest.param(npy_file(header() + " " * 2000, bytes(6)), id="long header"),
        pytest.param(npy_file("(" * 900, bytes(6)), id="nested header"),
        pytest.param(npy_file("__import__('os').abort()", bytes(6)), id="code for a header"),
        pytest.param(npy_file("{}", bytes(6)), id="empty header"),
        pytest.param(npy_file(header(f"(0, {2**63})")), id="one too long and nothing"),
    ],
)
def test_what_is_hostile_is_an_invalid_request(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(data)
    assert "Traceback" not in caught.value.message and "\n" not in caught.value.message


def test_pickled_objects_are_never_read() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pytest.fail, ("was unpickled",)

    stream = io.BytesIO()
    npy.write_array(stream, np.array([[Bomb()]], object), allow_pickle=True)
    with pytest.raises(InvalidRequest):
        decode(stream.getvalue())
    with pytest.raises(InvalidRequest):
        wire.decode_array(npy_file(header(descr="'|O'"), bytes(48)), dtype=object, shape=(2, 3))


@given(st.binary(max_size=300))
@example(b"\x93NUMPY\x01\x00v\x00" + bytes(0x76))
def test_random_bytes_are_an_invalid_request(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(data)


@given(st.binary(max_size=120), st.binary(max_size=8))
def test_random_headers_are_an_invalid_request(text: bytes, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(npy_file(text.decode("latin1"), body))


@given(position=st.integers(0, 134), value=st.integers(0, 255))
def test_a_damaged_file_is_an_array_or_an_invalid_request(position: int, value: int) -> None:
    data = bytearray(wire.encode_array(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    data[min(position, len(data) - 1)] = value
    try:
        found = decode(bytes(data))
    except InvalidRequest:
        return
    assert found.dtype == np.uint8 and found.size == 6


@pytest.fixture
def busy_collector() -> Iterator[None]:
    """Collections of garbage that let other threads run, as those do that are counted for metrics."""
    threshold = gc.get_threshold()

    def let_others_run(phase: str, info: dict[str, int]) -> None:
        sum(range(300))

    gc.callbacks.append(let_others_run)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.remove(let_others_run)


@pytest.mark.slow
def test_threads_do_not_disturb_one_another(busy_collector: None) -> None:
    data = wire.encode_array(np.zeros((2, 4, 4, 3), np.uint8))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: wire.decode_array(data, dtype=np.uint8, shape=(2, 4, 4, 3)), range(18_000)))
    finally:
        sys.setswitchinterval(interval)
    assert len(found) == 18_000


def test_the_body_of_an_error() -> None:
    assert wire.error_body(Overloaded("Busy."), "abc") == {
        "error": {"code": "overloaded", "message": "Busy."},
        "request_id": "abc",
    }
