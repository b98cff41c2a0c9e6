"""Packed arrays, in which the client takes what has changed (`files/volume_headers/packed_array.py` reads them)."""

import struct

import numpy as np
from numpy.typing import NDArray

from segserve.files.volume_headers.packed_array import MAGIC, VERSION

# Of the format: 1 is Zstandard.
CODEC = 1
# Bytes of a chunk: Blosc 2 takes less than 2 GiB at once.
MAX_CHUNK_BYTES = 1 << 30
LEVEL = 3
# Of a chunk's header, and where in it the bytes of the values' type are.
HEADER_BYTES, TYPE_SIZE_AT = 32, 3


def pack_mask(mask: NDArray[np.uint8]) -> bytes:
    """Return a mask as the client reads it. Blocks: 1 ms for a megabyte."""
    name = mask.dtype.name.encode()
    parts = [
        struct.pack("<4sBBBB", MAGIC, VERSION, CODEC, mask.ndim, len(name)),
        name,
        struct.pack(f"<{mask.ndim}q", *mask.shape),
    ]
    data = mask.tobytes()
    chunks = [data[begin : begin + MAX_CHUNK_BYTES] for begin in range(0, len(data), MAX_CHUNK_BYTES)]
    parts.append(struct.pack("<I", len(chunks)))
    for chunk in chunks:
        packed = pack_chunk(chunk)
        parts += [struct.pack("<QQ", len(chunk), len(packed)), packed]
    return b"".join(parts)


def pack_chunk(chunk: bytes) -> bytes:
    """Return a chunk of Blosc 2."""
    from imagecodecs import blosc2_encode  # here: its import starts threads

    packed = bytes(blosc2_encode(chunk, level=LEVEL, compressor="zstd", shuffle="noshuffle", numthreads=1))
    if len(packed) > HEADER_BYTES:
        return packed
    # It says that all are zeros. imagecodecs 2026.3 states a type of 8 bytes for any, and Blosc 2 reads no zeros whose
    # number is no multiple of that.
    return packed[:TYPE_SIZE_AT] + b"\1" + packed[TYPE_SIZE_AT + 1 :]
