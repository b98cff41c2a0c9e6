"""Tensors: from and to bytes and JSON."""

from typing import Any

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.wire.frontends.open_inference.tensors import (
    NUMPY_TYPES,
    bytes_tensor,
    from_bytes,
    from_list,
    to_bytes,
    to_list,
)

NUMBERS = [name for name in NUMPY_TYPES if name != "BYTES"]


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_survive_bytes_and_json(datatype: str) -> None:
    values = np.array([[1, 0], [1, 1], [0, 1]], NUMPY_TYPES[datatype])
    tensor = from_bytes("x", datatype, [3, 2], values.tobytes())
    np.testing.assert_array_equal(tensor.values, values)
    assert to_bytes(tensor) == values.tobytes()
    again = from_list("x", datatype, [3, 2], to_list(tensor))
    np.testing.assert_array_equal(again.values, values)
    assert again.values.dtype == values.dtype
    nested = from_list("x", datatype, [3, 2], values.tolist())
    np.testing.assert_array_equal(nested.values, values)


def test_bytes_have_their_length_before_them() -> None:
    tensor = bytes_tensor("x", [b"", b"abc", bytes(range(256))])
    data = to_bytes(tensor)
    assert data[:11] == b"\0\0\0\0\3\0\0\0abc"
    assert list(from_bytes("x", "BYTES", [3], data).values) == list(tensor.values)


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("UINT8", [3], b"ab"),
        ("FP32", [1], b"abc"),
        ("FP31", [1], b"abcd"),
        ("UINT8", [-1], b""),
        ("UINT8", [1] * 9, b"a"),
        ("UINT8", [1 << 40], b"a"),
        ("BYTES", [1], b"\5\0\0\0ab"),
        ("BYTES", [1], b"\5\0"),
        ("BYTES", [2], b"\1\0\0\0a"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: str, shape: list[int], data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        from_bytes("x", datatype, shape, data)
    assert refused.value.field == "x"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("UINT8", [2], [1]),
        ("UINT8", [1], [256]),
        ("UINT8", [1], [-1]),
        ("UINT8", [1], [1.5]),
        ("INT64", [1], ["1"]),
        ("INT64", [1], [1 << 70]),
        ("FP32", [1], [None]),
        ("FP32", [3], [[1], [2, 3]]),
        ("BYTES", [1], [1]),
        ("BYTES", [2], ["a"]),
    ],
)
def test_json_that_does_not_fit_is_refused(datatype: str, shape: list[int], data: list[Any]) -> None:
    with pytest.raises(BadInput) as refused:
        from_list("x", datatype, shape, data)
    assert refused.value.field == "x"


def test_nothing_is_a_tensor_too() -> None:
    assert from_bytes("x", "FP32", [0, 2], b"").shape == [0, 2]
    assert from_list("x", "FP32", [0, 2], []).shape == [0, 2]


@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_a_shape_that_no_array_has_is_refused(datatype: str) -> None:
    shape = [0, *[(1 << 31) - 1] * 3]
    with pytest.raises(BadInput, match="shape is none"):
        from_bytes("x", datatype, shape, b"")
    with pytest.raises(BadInput, match="shape is none"):
        from_list("x", datatype, shape, [])


def test_elements_are_not_read_without_end() -> None:
    with pytest.raises(BadInput, match="up to 4096"):
        from_bytes("x", "BYTES", [1 << 20], bytes(4 << 20))
    with pytest.raises(BadInput, match="not the 1 of its shape"):
        from_bytes("x", "BYTES", [1], bytes(4 << 20))
