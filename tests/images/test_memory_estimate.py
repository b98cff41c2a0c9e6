"""No kind of image takes more memory than its header let estimate, by real peaks of real processes."""

import asyncio
import io
import json
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.images.memory_estimate import FIXED_BYTES
from segserve.types import DEFAULT_TENANT, ImageLimits, ReadOptions
from tests.images.folder_library import FolderLibrary, run_scenario
from tests.images.sample_images import black_png, save_image

# Twice as wide as high: a band is a large part of it.
H, W = 1800, 3600
# An estimate may be so many times the peak; a lower one of both would refuse images that fit.
MAX_OVERESTIMATE = 6
RNG = np.random.default_rng(0)
NOISE = np.repeat(np.repeat(RNG.integers(0, 256, (H // 4, W // 4, 4), np.uint8), 4, 0), 4, 1)
COLOUR = np.ascontiguousarray(NOISE[:, :, :3])
GREY = np.ascontiguousarray(NOISE[:, :, 0])
DEEP = NOISE.view(np.uint16)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def run_length_bmp() -> bytes:
    row, rows = b"\xff\x07" * (W // 255) + bytes([W % 255, 9]) + b"\0\0", H // 2
    head = struct.pack("<IiiHHIIiiII", 40, W, rows, 1, 8, 1, len(row) * rows, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(row) * rows, 0, 0, 1078) + head + bytes(1024) + row * rows


def animation(form: str) -> bytes:
    frames = [Image.fromarray(np.roll(COLOUR, shift, axis=0)) for shift in (0, 100)]
    return save_image(frames[0], form, save_all=True, append_images=frames[1:])


TILES = {"tile": (256, 256), "compression": "zlib"}


@cache
def encode_files() -> dict[str, bytes]:
    """Return images of every kind. Made by the first test that wants them, since it takes seconds."""
    return {
        **{
            f"png {depth}-bit, colour type {colour}{', interlaced' * interlaced}": black_png(
                depth, colour, interlaced, H, W
            )
            for depth, colour in ((1, 0), (8, 2), (8, 3), (8, 6), (16, 0), (16, 2), (16, 4), (16, 6))
            for interlaced in (False, True)
        },
        "png of noise": save_image(Image.fromarray(NOISE), "PNG", compress_level=1),
        "png animated": animation("PNG"),
        "jpeg": save_image(Image.fromarray(COLOUR), "JPEG"),
        "jpeg cmyk": save_image(Image.fromarray(NOISE, "CMYK"), "JPEG"),
        "jpeg grey, progressive": save_image(Image.fromarray(GREY), "JPEG", progressive=True),
        "jpeg progressive": save_image(Image.fromarray(COLOUR), "JPEG", progressive=True, subsampling=0),
        "webp": save_image(Image.fromarray(COLOUR), "WEBP", method=0),
        "webp lossless with alpha": save_image(
            Image.fromarray(NOISE), "WEBP", lossless=True, method=0, quality=0
        ),
        "webp animated": animation("WEBP"),
        "bmp": save_image(Image.fromarray(COLOUR), "BMP"),
        "bmp palette": save_image(Image.fromarray(GREY).convert("P"), "BMP"),
        "bmp run lengths": run_length_bmp(),
        "tiff one strip": tiff(COLOUR, photometric="rgb", rowsperstrip=H, compression="zlib"),
        "tiff raw": tiff(COLOUR, photometric="rgb"),
        "tiff tiles": tiff(COLOUR, photometric="rgb", **TILES),
        "tiff deep, big-endian": tiff(
            DEEP, byteorder=">", compression="lzw", predictor=True, rowsperstrip=64
        ),
        "tiff planar": tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate", **TILES),
        "tiff jpeg": tiff(COLOUR, photometric="rgb", tile=(512, 512), compression="jpeg"),
        "tiff cmyk": tiff(NOISE, photometric="separated", **TILES),
        "tiff palette": tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16), **TILES),
        "tiff floats": tiff(GREY.astype(np.float32), **TILES),
        "tiff long": tiff(
            NOISE.astype(np.int64), photometric="minisblack", planarconfig="contig", rowsperstrip=H
        ),
        "tiff 1-bit": tiff(GREY > 99, rowsperstrip=99),
        "tiff white is zero": tiff(DEEP, photometric="miniswhite", planarconfig="contig", **TILES),
    }


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "tiff floats": [{"normalise": "percentile"}],
    "tiff long": [{"normalise": "percentile"}, {"channels": [2, 1], "normalise": "minmax"}],
    "png 16-bit, colour type 6, interlaced": [{"normalise": "percentile"}, {"channels": [1, 3]}],
    "png of noise": [{"normalise": "minmax"}, {"channels": [3, 0, 1]}],
    "png animated": [{"page": 1}],
    "webp animated": [{"page": 1}],
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """(estimate, peak) in bytes of every case, by its name."""
    folder, cases = tmp_path_factory.mktemp("images"), {}
    for number, (name, data) in enumerate(encode_files().items()):
        path = folder / str(number)
        path.write_bytes(data)
        for options in ({}, *OPTIONS.get(name, [])):
            for what in ("read", "pyramid"):
                if not (what == "pyramid" and options.get("page")):
                    cases[f"{name} {options} {what}"] = (str(path), what, options)
    command = [sys.executable, "-m", "tests.images.peak_memory"]
    run = subprocess.run(
        command, input=json.dumps(list(cases.values())), capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {name: (estimate, peak) for name, (estimate, peak) in zip(cases, lines, strict=True)}


def test_no_kind_takes_more_than_estimated(measured: dict[str, tuple[int, int]]) -> None:
    """With the margin FIXED_BYTES, which is part of each estimate."""
    assert {name: pair for name, pair in measured.items() if pair[1] > pair[0]} == {}


def test_no_estimate_is_far_too_high(measured: dict[str, tuple[int, int]]) -> None:
    too_high = {n: (e, p) for n, (e, p) in measured.items() if e - FIXED_BYTES > MAX_OVERESTIMATE * p}
    assert too_high == {}


@pytest.mark.parametrize("tile_above_px", [256, 10_000])
def test_an_image_over_the_budget_is_refused_before_it_is_decoded(tile_above_px: int, tmp_path: Path) -> None:
    """40 megapixels of 16-bit RGBA, interlaced, of 50 KB: at least 16 bytes a pixel."""
    limits = ImageLimits(max_pixels=10**8, max_tiled_pixels=10**8, tile_above_px=tile_above_px)
    bomb, fits = black_png(16, 6, True, 8000, 5000), black_png(8, 2, False, 300, 300)

    async def scenario(library: FolderLibrary) -> None:
        with pytest.raises(TooLarge, match="SEGSERVE_IMAGE_MEMORY_MB") as refusal:
            await library.images.add(DEFAULT_TENANT, io.BytesIO(bomb), ReadOptions())
        assert refusal.value.field == "file"
        assert library.memory.held_bytes == 0
        await library.images.add(DEFAULT_TENANT, io.BytesIO(fits), ReadOptions())

    run_scenario(tmp_path, scenario, limits=limits, memory=600_000_000)


def test_a_damaged_image_gives_its_memory_back(tmp_path: Path) -> None:
    async def scenario(library: FolderLibrary) -> None:
        for _ in range(3):
            with pytest.raises(BadInput):
                await library.images.add(
                    DEFAULT_TENANT, io.BytesIO(encode_files()["png of noise"][:-5000]), ReadOptions()
                )
        while library.memory.held_bytes:  # given back by the thread that decoded
            await asyncio.sleep(0.01)

    run_scenario(tmp_path, scenario, limits=ImageLimits(10**7, 10**7, 10_000))
