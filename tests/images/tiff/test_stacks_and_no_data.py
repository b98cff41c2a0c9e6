"""Several planes behind one directory; values that stand for "not measured"; alpha that colours are multiplied by."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput
from segserve.images.image_source import ImageSource
from segserve.images.read_image import open_image
from segserve.images.tiff.reader import count_pages
from segserve.images.tile_pyramid import decode_tile, write_pyramid
from segserve.types import Normalise, ReadOptions
from tests.images.decoding import (
    GREY,
    RGB,
    RNG,
    STRETCHES,
    H,
    W,
    nearly_equal,
    read,
    repeat_grey,
    stretch_minmax,
    stretch_percentile,
)
from tests.images.sample_images import write_tiff

STACK = RNG.integers(0, 60000, (6, H, W)).astype(np.uint16)


def open_page(data: bytes, page: int = 0) -> ImageSource:
    return open_image(io.BytesIO(data), page, 1_000_000, 1_000_000)


def pages_of(data: bytes) -> NDArray[Any]:
    return np.stack(
        [open_page(data, page).read().values.squeeze() for page in range(count_pages(io.BytesIO(data)))]
    )


def write_one_directory(stack: NDArray[Any], description: str) -> bytes:
    """Return what ImageJ writes of a stack over 4 GB: one directory, and all planes behind each other."""
    first = write_tiff(stack[0], description=description, metadata=None, byteorder=">")
    with tifffile.TiffFile(io.BytesIO(first)) as file:
        begin = file.pages.first.dataoffsets[0]
    return first[:begin] + stack.astype(stack.dtype.newbyteorder(">")).tobytes()


def write_stk(stack: NDArray[Any], rows_per_strip: int) -> bytes:
    """Return a MetaMorph stack (STK): the directory describes the first plane; UIC2's count is that of planes."""
    _, height, width = stack.shape
    strips = -(-height // rows_per_strip)
    sizes = [min(rows_per_strip, height - n * rows_per_strip) * width * 2 for n in range(strips)]
    data = stack.astype("<u2").tobytes()
    offsets = [8 + sum(sizes[:n]) for n in range(strips)]
    lists = 8 + len(data)
    extra = struct.pack(f"<{2 * strips}I", *offsets, *sizes) + bytes(24 * len(stack))
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, strips, lists if strips > 1 else offsets[0]), (277, 3, 1, 1), (278, 4, 1, rows_per_strip),
        (279, 4, strips, lists + 4 * strips if strips > 1 else sizes[0]),
        (33629, 5, len(stack), lists + 8 * strips),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = lists + len(extra)
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + data
        + extra
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
    )


class TestStacks:
    def test_imagej(self) -> None:
        data = write_one_directory(STACK, "ImageJ=1.53t\nimages=6\nslices=6\n")
        assert np.array_equal(pages_of(data), STACK)

    def test_imagej_channels_vary_first(self) -> None:
        data = write_one_directory(STACK, "ImageJ=1.53t\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n")
        assert count_pages(io.BytesIO(data)) == 3
        for page in range(3):
            expected = np.moveaxis(STACK[2 * page : 2 * page + 2], 0, -1)
            assert np.array_equal(open_page(data, page).read().values, expected)

    def test_tifffile(self) -> None:
        assert np.array_equal(pages_of(write_tiff(STACK, metadata={"axes": "ZYX"}, truncate=True)), STACK)
        colour = RNG.integers(0, 256, (4, H, W, 3), np.uint8)
        assert np.array_equal(pages_of(write_tiff(colour, photometric="rgb", truncate=True)), colour)

    @pytest.mark.parametrize("rows", [H, 5])
    def test_stk(self, rows: int) -> None:
        data = write_stk(STACK, rows)
        assert np.array_equal(pages_of(data), STACK)

    def test_bands_are_those_of_the_plane(self) -> None:
        source = open_page(write_stk(STACK, 5), 4)
        assert source.bands is not None
        assert np.array_equal(np.concatenate([band.values for band in source.bands()])[:, :, 0], STACK[4])

    def test_a_stack_that_was_cut_is_refused_with_its_numbers(self) -> None:
        data = write_one_directory(STACK, "ImageJ=1.53t\nimages=6\n")
        with pytest.raises(BadInput, match="states 6 images, and there are 4"):
            count_pages(io.BytesIO(data[:-3000]))

    def test_a_single_image_that_kept_its_description_is_one(self) -> None:
        data = write_tiff(STACK[0], description="ImageJ=1.53t\nimages=6\n", metadata=None)
        assert count_pages(io.BytesIO(data)) == 1

    def test_lies(self) -> None:
        for description in (
            '{"shape": [1e9]}',
            '{"shape": [-5, 24, 36]}',
            '{"shape": [',
            '{"shape": "x"}',
            "ImageJ=1\nimages=0",
        ):
            assert count_pages(io.BytesIO(write_tiff(GREY, description=description, metadata=None))) == 1
        with pytest.raises(BadInput):
            count_pages(io.BytesIO(write_tiff(GREY, description="ImageJ=1\nimages=999999999", metadata=None)))


def with_no_data(values: NDArray[Any], no_data: str) -> bytes:
    return write_tiff(values, extratags=[(42113, 2, 0, no_data, True)])


class TestNoData:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint16, np.int32])
    @pytest.mark.parametrize("mode", list(Normalise))
    def test_it_is_no_limit(self, dtype: type, mode: Normalise) -> None:
        values = RNG.integers(100, 20000, (H, W)).astype(dtype)
        valid = RNG.random((H, W)) > 0.3
        no_data = 65535 if dtype is np.uint16 else -9999
        stored = np.where(valid, values, np.array(no_data, dtype))
        found = read(with_no_data(stored, f"{no_data} "), normalise=mode)[:, :, 0]
        assert nearly_equal(found[valid], STRETCHES[mode](values[valid]))
        assert not found[~valid].any()

    def test_8_bit_stays_as_it_is_and_is_left_out_of_limits(self) -> None:
        stored = np.where(GREY < 40, 255, GREY // 2).astype(np.uint8)
        valid = stored != 255
        assert np.array_equal(read(with_no_data(stored, "255"))[:, :, 0], stored)
        for mode, stretch in ((Normalise.MINMAX, stretch_minmax), (Normalise.PERCENTILE, stretch_percentile)):
            found = read(with_no_data(stored, "255"), normalise=mode)[:, :, 0]
            assert np.abs(found[valid].astype(int) - stretch(stored[valid])).max() <= 1
            assert not found[~valid].any()

    @pytest.mark.parametrize("mode", list(Normalise))
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_tiles_have_the_same_pixels(self, mode: Normalise, dtype: type) -> None:
        stored = np.where(GREY < 40, 99, GREY // 2).astype(dtype)
        data, tiles = with_no_data(stored, "99"), []
        options = ReadOptions(normalise=mode)
        channels, _ = write_pyramid(open_page(data), options, lambda *tile: tiles.append(tile[-1]))
        assert channels == 1
        assert np.array_equal(
            repeat_grey(decode_tile(tiles[0], H, W, 1)[:, :, 0]), read(data, normalise=mode)
        )

    def test_text_that_is_no_number_says_nothing(self) -> None:
        for text in ("nan", "none", "", "1e999"):
            assert np.array_equal(read(with_no_data(STACK[0], text)), read(write_tiff(STACK[0])))


def test_associated_alpha_is_divided_out() -> None:
    alpha = RNG.integers(0, 256, (H, W), np.uint8)
    premultiplied = np.rint(RGB * (alpha[:, :, None] / 255)).astype(np.uint8)
    values = np.dstack([premultiplied, alpha])
    data = write_tiff(values, photometric="rgb", extrasamples=["assocalpha"])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[:, :, :3]
    visible = alpha > 8
    assert np.abs(read(data)[visible].astype(int) - expected[visible]).max() <= 1
    plain = write_tiff(values, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(plain), premultiplied)
