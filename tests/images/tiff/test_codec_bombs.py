"""Tiles of TIFF that unpack to far more than they state are refused, or no more than the tile is read of them."""

import io
import lzma
import struct
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.types import ReadOptions, UInt8
from tests.images.folder_library import FolderLibrary, run_scenario

SIDE = 64
# Code words of a white line of group 4 (ITU-T T.6, 2.2.3): one bit, "vertical mode 0".
WHITE_LINES = b"\xff" * 2_000_000


def make_bomb(codec: str) -> bytes:
    """Return a tile's bytes, of hundreds of megabytes unpacked."""
    match codec:
        case "lzma":
            packer = lzma.LZMACompressor(preset=0)
            parts = [packer.compress(bytes(1 << 24)) for _ in range(32)]
            return b"".join([*parts, packer.flush()])
        case "png":
            return bytes(imagecodecs.png_encode(np.zeros((8000, 8000), np.uint8), level=1))
    return bytes(imagecodecs.lerc_encode(np.zeros((8000, 8000), np.uint8)))


def write_tile(data: bytes, codec: str) -> bytes:
    """Write a TIFF of one tile whose bytes are `data`."""
    out = io.BytesIO()
    tifffile.imwrite(
        out, iter([data]), shape=(SIDE, SIDE), dtype=np.uint8, tile=(SIDE, SIDE), compression=codec
    )
    return out.getvalue()


def write_strip(data: bytes) -> bytes:
    """Write a TIFF of group 4, with one strip whose bytes are `data`."""
    out = io.BytesIO()
    Image.new("1", (SIDE, SIDE)).save(out, "TIFF", compression="group4")
    file = bytearray(out.getvalue())
    out.seek(0)
    with tifffile.TiffFile(out) as opened:
        entries = [opened.pages.first.tags[name].offset for name in ("StripOffsets", "StripByteCounts")]
    for entry, value in zip(entries, (len(file), len(data)), strict=True):
        struct.pack_into("<HII", file, entry + 2, 4, 1, value)
    return bytes(file) + data


@pytest.mark.parametrize("codec", ["lzma", "png", "lerc", "ccitt"])
def test_a_tile_that_unpacks_to_far_more(codec: str, tmp_path: Path) -> None:
    read: list[UInt8] = []

    async def scenario(library: FolderLibrary) -> None:
        bomb = io.BytesIO(
            write_strip(WHITE_LINES) if codec == "ccitt" else write_tile(make_bomb(codec), codec)
        )
        with suppress(BadInput, TooLarge):
            record = await library.images.add("t", bomb, ReadOptions())
            read.append(await library.images.read_pixels("t", record.image_id))
        # The next one is read as if nothing had been.
        good = io.BytesIO()
        tifffile.imwrite(good, np.full((SIDE, SIDE), 7, np.uint8), compression="lzma")
        record = await library.images.add("t", good, ReadOptions())
        assert (await library.images.read_pixels("t", record.image_id) == 7).all()

    run_scenario(tmp_path, scenario)
    assert all(values.shape == (SIDE, SIDE, 3) and not np.diff(values, axis=0).any() for values in read)
