"""Tensors: arrays with a name and a type of the protocol, from and to bytes and JSON."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput

BYTES = "BYTES"
# numpy types by the protocol's; bytes are little-endian.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BYTES: np.dtype(np.object_),
}
MAX_DIMENSIONS = 8
# Of all dimensions together, those of length 0 left out: numpy takes no shape beyond its own limit.
MAX_LENGTH = (1 << 31) - 1
MAX_BYTES_ELEMENTS = 4096
LENGTH = struct.Struct("<I")  # before each element of BYTES


@dataclass(frozen=True)
class Tensor:
    """values: of the numpy type of `datatype`; the elements of BYTES are bytes."""

    name: str
    datatype: str
    values: NDArray[Any]

    @property
    def shape(self) -> list[int]:
        return list(self.values.shape)


def bad_tensor(name: str, message: str, remedy: str) -> BadInput:
    return BadInput(f"Tensor {name!r}: {message}", field=name, remedy=remedy)


def check_shape(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return the number of elements. Raises BadInput where type or shape are none of the protocol."""
    if datatype not in NUMPY_TYPES:
        raise bad_tensor(
            name, f"the datatype {datatype!r} is not known.", f"Send one of {', '.join(NUMPY_TYPES)}."
        )
    if (
        len(shape) > MAX_DIMENSIONS
        or any(edge < 0 for edge in shape)
        or prod(max(edge, 1) for edge in shape) > MAX_LENGTH
    ):
        raise bad_tensor(name, "the shape is none.", f"Send up to {MAX_DIMENSIONS} lengths from 0.")
    count = prod(shape)
    if datatype == BYTES and count > MAX_BYTES_ELEMENTS:
        raise bad_tensor(name, f"it has {count} elements.", f"Send up to {MAX_BYTES_ELEMENTS} of BYTES.")
    return count


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """Read a tensor of its bytes. Raises BadInput where they do not fit the shape."""
    count, dtype = check_shape(name, datatype, shape), NUMPY_TYPES[datatype]
    if datatype == BYTES:
        elements = split_elements(name, data, count)
        if len(elements) != count:
            raise bad_tensor(name, f"its elements are not the {count} of its shape.", "Send as many.")
        return bytes_tensor(name, elements, shape)
    if len(data) != count * dtype.itemsize:
        raise bad_tensor(
            name,
            f"{list(shape)} of {datatype} are {count * dtype.itemsize} bytes, {len(data)} came.",
            "Send as many, little-endian.",
        )
    return Tensor(name, datatype, np.frombuffer(data, dtype).reshape(shape))


def split_elements(name: str, data: bytes | memoryview, count: int) -> list[bytes]:
    """Return the elements of BYTES: each has its length before it. Raises BadInput.

    count: how many there should be. Of more one is read, so that the caller sees it.
    """
    elements: list[bytes] = []
    position = 0
    while position < len(data) and len(elements) <= count:
        end = position + LENGTH.size
        length = LENGTH.unpack_from(data, position)[0] if end <= len(data) else len(data)
        if end + length > len(data):
            raise bad_tensor(name, "an element is cut off.", "Send 4 bytes of length before each element.")
        elements.append(bytes(data[end : end + length]))
        position = end + length
    return elements


def to_bytes(tensor: Tensor) -> bytes:
    """Write the values as `from_bytes` reads them."""
    if tensor.datatype == BYTES:
        return b"".join(LENGTH.pack(len(item)) + item for item in tensor.values.ravel())
    return np.ascontiguousarray(tensor.values, NUMPY_TYPES[tensor.datatype]).tobytes()


def from_list(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """Read a tensor of the numbers or texts of JSON, in one list or nested as the shape is. Raises BadInput."""
    count = check_shape(name, datatype, shape)
    remedy = f"Send {count} values of {datatype}, row by row."
    if datatype == BYTES:
        flat = flatten(data)
        if len(flat) != count or not all(isinstance(item, str) for item in flat):
            raise bad_tensor(name, "the data do not fit its shape.", remedy)
        return bytes_tensor(name, [item.encode() for item in flat], shape)
    try:
        given = np.asarray(data)
    except ValueError:  # ragged
        raise bad_tensor(name, "the data do not fit its shape.", remedy) from None
    dtype = NUMPY_TYPES[datatype]
    allowed_kinds = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if given.size != count or (count and given.dtype.kind not in allowed_kinds):
        raise bad_tensor(name, "the data do not fit its shape and type.", remedy)
    if count and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if given.min() < limits.min or given.max() > limits.max:
            raise bad_tensor(name, f"a value is beyond {datatype}.", remedy)
    return Tensor(name, datatype, given.astype(dtype).reshape(shape))


def flatten(data: list[Any]) -> list[Any]:
    """Return the items of nested lists, whose depth the parser has bounded."""
    if not any(isinstance(item, list) for item in data):
        return data
    return [inner for item in data for inner in (flatten(item) if isinstance(item, list) else [item])]


def to_list(tensor: Tensor) -> list[Any]:
    """Return the values for JSON, row by row. BYTES must be text."""
    if tensor.datatype == BYTES:
        return [item.decode() for item in tensor.values.ravel()]
    values: list[Any] = tensor.values.ravel().tolist()
    return values


def bytes_tensor(name: str, elements: Sequence[bytes], shape: Sequence[int] | None = None) -> Tensor:
    """Return a tensor of BYTES; of one dimension if no shape is given."""
    values = np.empty(len(elements), np.object_)
    values[:] = elements
    return Tensor(name, BYTES, values if shape is None else values.reshape(shape))


def text_tensor(name: str, texts: Sequence[str]) -> Tensor:
    """Return a tensor of BYTES [N]."""
    return bytes_tensor(name, [text.encode() for text in texts])
