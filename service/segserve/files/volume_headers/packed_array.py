"""The header of a packed array, in which nnInteractive's client sends volumes and masks (nninteractive-client 2.6,
`nnInteractive.inference.remote.serialization`).

    "NNIA" | version, codec, number of axes, length of the type's name: a byte each | name | axes: int64, little-endian
    | number of chunks: uint32 | for each chunk: its length unpacked and packed: uint64 each, then a chunk of Blosc 2
"""

import struct
from math import prod
from typing import BinaryIO

import numpy as np

from segserve.files.volume_geometry import create_geometry
from segserve.files.volume_headers.volume_header import (
    SPACE,
    VolumeHeader,
    complex_values_error,
    spatial_size,
    wrong_axes_error,
)
from segserve.files.voxel_data import VoxelData, unclear_header_error

MAGIC = b"NNIA"
VERSION = 1
_BEGINNING = struct.Struct("<4sBBBB")
MAX_AXES = 4
# By the names of numpy.
DTYPES = {
    "bool": "u1",
    **{f"{sign}int{8 * size}": f"<{sign or 'i'}{size}" for sign in ("u", "") for size in (1, 2, 4, 8)},
    "float32": "<f4",
    "float64": "<f8",
}


def parse_packed_array(file: BinaryIO) -> VolumeHeader:
    """Return what the header at the beginning of a file says. Its axes are [Z, Y, X], or [1, Z, Y, X].

    Raises BadInput.
    """
    file.seek(0)
    head = file.read(_BEGINNING.size)
    try:
        magic, version, _, axes, name_bytes = _BEGINNING.unpack(head)
        name = file.read(name_bytes).decode("ascii")
        shape = struct.unpack(f"<{axes}q", file.read(8 * axes))
    except (struct.error, UnicodeDecodeError):
        raise unclear_header_error() from None
    if magic != MAGIC or version != VERSION:
        raise unclear_header_error()
    if len(shape) == MAX_AXES and shape[0] == 1:  # one channel
        shape = shape[1:]
    if name == "float16":
        raise complex_values_error("floating point numbers of 16 bits")
    if name not in DTYPES:
        raise complex_values_error("of another type")
    if not all(1 <= side < 1 << 31 for side in shape):
        raise wrong_axes_error(shape)
    fastest_first = shape[::-1]
    roles = (SPACE,) * len(shape)
    size = spatial_size(fastest_first, roles)
    data = VoxelData(file.tell(), None, 0, prod(shape), np.dtype(DTYPES[name]), "blosc2")
    return VolumeHeader(data, fastest_first, roles, create_geometry(size, np.eye(4), is_placed=False))
