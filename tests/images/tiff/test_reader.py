"""TIFF pages of every layout are decoded to the right channels; what is not supported is refused."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import UnsupportedFormat
from segserve.types import UInt8
from tests.images.decoding import GREY, RGB, RNG, H, W, expect_refusal, read, repeat_grey, stretch_minmax
from tests.images.sample_images import write_tiff


class TestTiff:
    @pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_types(self, kind: str, order: str) -> None:
        values = (RNG.random((H, W)) * 100 - (0 if kind[0] == "u" else 50)).astype(kind)
        data = write_tiff(values, byteorder=order)
        expected = values if kind == "u1" else stretch_minmax(values)
        assert np.array_equal(read(data), repeat_grey(expected))

    @pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd"])
    @pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 5}])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_compressions(self, compression: str | None, layout: dict[str, Any], dtype: type) -> None:
        values = RGB.astype(dtype)
        if compression in ("lzw", "deflate", "zstd"):
            layout = layout | {"predictor": True}
        data = write_tiff(values, photometric="rgb", compression=compression, **layout)
        assert np.array_equal(read(data), RGB if dtype == np.uint8 else stretch_minmax(values))

    @pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}])
    @pytest.mark.parametrize("values", [GREY, RGB])
    def test_jpeg(self, layout: dict[str, Any], values: UInt8) -> None:
        smooth = np.asarray(Image.fromarray(values).resize((4, 4)).resize((W, H)))
        kind = "rgb" if values is RGB else "minisblack"
        decoded = read(write_tiff(smooth, compression="jpeg", photometric=kind, **layout))
        assert np.abs(decoded.astype(int) - (smooth if values is RGB else repeat_grey(smooth))).mean() < 4

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_channels_last_or_first(self, planar: str) -> None:
        values = RGB if planar == "contig" else RGB.transpose(2, 0, 1)
        assert np.array_equal(read(write_tiff(values, photometric="rgb", planarconfig=planar)), RGB)

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_two_channels_become_their_mean(self, planar: str) -> None:
        pair = RGB[:, :, :2] if planar == "contig" else RGB[:, :, :2].transpose(2, 0, 1)
        mean = repeat_grey(np.floor(RGB[:, :, :2].mean(axis=2) + 0.5).astype(np.uint8))
        assert np.array_equal(read(write_tiff(pair, photometric="minisblack", planarconfig=planar)), mean)

    def test_first_three_of_five_channels(self) -> None:
        five = RNG.integers(0, 256, (H, W, 5), np.uint8)
        data = write_tiff(five, photometric="minisblack", planarconfig="contig")
        assert np.array_equal(read(data), five[:, :, :3])
        assert np.array_equal(read(data, channels=(4, 0, 2)), five[:, :, [4, 0, 2]])
        assert np.array_equal(read(data, channels=(3,)), repeat_grey(five[:, :, 3]))

    def test_alpha_of_16_bits(self) -> None:
        values = RNG.integers(0, 65536, (H, W, 4), np.uint16)
        assert np.array_equal(read(write_tiff(values, photometric="rgb")), stretch_minmax(values[:, :, :3]))

    def test_pages(self) -> None:
        pages = RNG.integers(0, 256, (4, H, W), np.uint8)
        data = write_tiff(pages, photometric="minisblack")
        for page in range(4):
            assert np.array_equal(read(data, page=page), repeat_grey(pages[page]))
        expect_refusal(data, page=4, field="page")
        expect_refusal(data, page=-1, field="page")

    def test_pages_of_different_sizes(self) -> None:
        file = io.BytesIO()
        with tifffile.TiffWriter(file, bigtiff=True) as writer:
            writer.write(GREY)
            writer.write(RGB[:7, :9], photometric="rgb")
        assert np.array_equal(read(file.getvalue(), page=1), RGB[:7, :9])

    def test_imagej_channels_are_channels(self) -> None:
        stack = RNG.integers(0, 256, (3, 2, H, W), np.uint8)  # z, channel
        data = write_tiff(stack, imagej=True, metadata={"axes": "ZCYX"})
        for page in range(3):
            assert np.array_equal(read(data, page=page, channels=(0,)), repeat_grey(stack[page, 0]))
            assert np.array_equal(read(data, page=page, channels=(1,)), repeat_grey(stack[page, 1]))
        expect_refusal(data, page=3, field="page")

    @pytest.mark.parametrize("axes", ["CZYX", "ZCYX", "TZCYX", "TCZYX", "CTZYX"])
    def test_ome_channels_are_channels(self, axes: str) -> None:
        lengths = {"C": 3, "Z": 2, "T": 2}
        stack = RNG.integers(0, 256, (*(lengths[axis] for axis in axes[:-2]), H, W), np.uint8)
        data = write_tiff(stack, ome=True, photometric="minisblack", metadata={"axes": axes})
        channels_last = np.moveaxis(stack, axes.index("C"), -1).reshape(-1, H, W, 3)
        for page, expected in enumerate(channels_last):
            assert np.array_equal(read(data, page=page), expected)
        expect_refusal(data, page=len(channels_last), field="page")

    def test_white_may_be_zero(self) -> None:
        assert np.array_equal(read(write_tiff(GREY, photometric="miniswhite")), repeat_grey(255 - GREY))

    @pytest.mark.parametrize("bits", [2, 4])
    def test_few_bits(self, bits: int) -> None:
        values = GREY >> (8 - bits)
        data = write_tiff(values, bitspersample=bits)
        assert np.array_equal(read(data), repeat_grey(values * np.uint8(255 // (2**bits - 1))))

    def test_twelve_bits(self) -> None:
        values = RNG.integers(0, 4096, (H, W), np.uint16)
        assert np.array_equal(read(write_tiff(values, bitspersample=12)), repeat_grey(stretch_minmax(values)))

    @pytest.mark.parametrize("compression", ["jpeg2000", "webp", "lzma", "png", "jpegxl"])
    def test_compressions_that_are_not_supported(self, compression: str) -> None:
        expect_refusal(write_tiff(RGB, photometric="rgb", compression=compression), UnsupportedFormat)

    def test_other_features_that_are_not_supported(self) -> None:
        expect_refusal(write_tiff(GREY.astype(np.complex64)), UnsupportedFormat)
        expect_refusal(write_tiff(RGB, photometric="cielab"), UnsupportedFormat)
        expect_refusal(write_tiff(RGB, photometric="ycbcr"), UnsupportedFormat)
        expect_refusal(
            write_tiff(RNG.random((16, 16, 16)), volumetric=True, tile=(16, 16, 16)), UnsupportedFormat
        )
