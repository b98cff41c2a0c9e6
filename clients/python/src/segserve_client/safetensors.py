"""Reading safetensors, in which the service sends embeddings: the length of a header, the header as JSON, the data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}


def parse(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays by their names. Raises ValueError where it is no safetensors file."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 + length:
        raise ValueError("no safetensors file")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays
