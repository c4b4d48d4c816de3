import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_extraction.weights import dlib_onnx, store
from feature_extraction.weights.dlib_onnx import DamagedError, Reader, Step, Window, read_network
from shared.errors import WeightsError
from shared.models import find_card, weights_folder


def integer(value: int) -> bytes:
    """dlib's variable-length integer, as ``dlib/serialize.h`` describes it."""
    body = abs(value).to_bytes(8, "little").rstrip(b"\0") or b"\0"
    return bytes([len(body) | (0x80 if value < 0 else 0)]) + body


def number(value: float) -> bytes:
    mantissa, exponent = np.frexp(value)
    return integer(int(mantissa * 2**53)) + integer(int(exponent) - 53)


def tensor(values: list[float]) -> bytes:
    shape = (len(values), 1, 1, 1)
    return integer(2) + b"".join(map(integer, shape)) + struct.pack(f"<{len(values)}f", *values)


@pytest.fixture(scope="session")
def dat(deepface_home: Path) -> bytes:
    folder = weights_folder(deepface_home)
    store.ensure(find_card("dlib"), "onnx", folder)
    path = folder / store.PACKAGED["dlib"].source.name
    if not path.exists():
        pytest.skip("only the converted file is there")
    return path.read_bytes()


@given(st.lists(st.integers(-(2**64) + 1, 2**64 - 1)))
def test_integers_survive(values: list[int]) -> None:
    reader = Reader(b"".join(map(integer, values)))
    assert [reader.integer() for _ in values] == values
    reader.end()


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100, allow_subnormal=False))
def test_numbers_survive(value: float) -> None:
    assert Reader(number(value)).number() == pytest.approx(value, rel=1e-12, abs=1e-290)


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_tensors_survive(values: list[float]) -> None:
    assert Reader(tensor(values)).tensor().ravel().tolist() == values


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for method in ("integer", "number", "text", "tensor", "alias", "window"):
        try:
            getattr(Reader(data), method)()
        except DamagedError:
            pass
    with pytest.raises(DamagedError):
        read_network(data)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x09" + bytes(9), b"\x41\x01", b"\x02\x01"])
def test_malformed_integers(data: bytes) -> None:
    with pytest.raises(DamagedError):
        Reader(data).integer()


def test_the_network(dat: bytes) -> None:
    kinds = [step.kind for step in read_network(dat)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "con_4": 29,
        "affine_": 29,
        "relu_": 29,
        "add_prev_": 14,
        "tag": 14,
        "swap": 4,
        "max_pool_2": 1,
        "avg_pool_2": 5,
        "fc_2": 1,
    }


@pytest.mark.parametrize("keep", [1, 20, 300, 335, 400, 20_000, 1_000_000, 22_466_065])
def test_a_truncated_file(dat: bytes, keep: int) -> None:
    with pytest.raises(DamagedError):
        read_network(dat[:keep])


def test_more_than_a_network(dat: bytes) -> None:
    with pytest.raises(DamagedError, match="something follows its end"):
        read_network(dat + b"\0")


@pytest.mark.slow
@given(position=st.integers(0, 337), value=st.integers(0, 255))
def test_a_header_with_a_wrong_byte_is_read_or_refused(dat: bytes, position: int, value: int) -> None:
    """Never another exception, an endless loop or a huge allocation."""
    damaged = bytearray(dat)
    damaged[position] = value
    try:
        read_network(bytes(damaged))
    except DamagedError:
        pass


def convolution(channels_in: int, channels_out: int, size: int, stride: int) -> list[Step]:
    shape = (channels_out, channels_in, size, size)
    parameters = np.zeros(int(np.prod(shape)) + channels_out, np.float32)
    affine = Step("affine_", np.ones(2 * channels_out, np.float32), (1, channels_out, 1, 1))
    return [Step("con_4", parameters, shape, Window(size, size, stride, (0, 0))), affine]


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "net.dat"
    path.write_bytes(b"not a network")
    with pytest.raises(WeightsError, match="is damaged or is not dlib's face recognition network"):
        dlib_onnx.convert(path, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(
    "steps",
    [
        [],
        convolution(3, 128, 7, 2),
        convolution(4, 8, 3, 1),
        convolution(3, 8, 3, 1)[:1],
        convolution(3, 8, 3, 1)[1:],
        [Step("fc_2", np.zeros(256, np.float32), (2, 128))],
        [Step("max_pool_2", window=Window(3, 3, 2, (1, 1)))],
        [Step("max_pool_2")],
    ],
    ids=["empty", "no embedding", "other channels", "no affine", "only affine", "other inputs", "padded", "no window"],
)
def test_steps_that_make_no_network(steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.dat").write_bytes(b"")
    monkeypatch.setattr(dlib_onnx, "read_network", lambda _: steps)
    with pytest.raises(WeightsError):
        dlib_onnx.convert(tmp_path / "net.dat", tmp_path / "net.onnx")
