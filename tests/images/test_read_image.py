"""Channels are selected by number, and files that are no images are refused."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import UnsupportedFormat
from tests.images.decoding import (
    GREY,
    RGB,
    RGBA,
    RNG,
    H,
    W,
    expect_refusal,
    read,
    repeat_grey,
    stretch_minmax,
)
from tests.images.sample_images import save_image, write_tiff


class TestChannels:
    @pytest.mark.parametrize("channels", [(), (0, 1, 2, 0), (3,), (-1,), (0, 99)])
    def test_channels_that_do_not_exist(self, channels: tuple[int, ...]) -> None:
        expect_refusal(save_image(Image.fromarray(RGB)), field="channels", channels=channels)

    def test_selected_channels(self) -> None:
        data = save_image(Image.fromarray(RGBA))
        assert np.array_equal(read(data, channels=(2, 1, 0)), RGBA[:, :, 2::-1])
        assert np.array_equal(read(data, channels=(3,)), repeat_grey(RGBA[:, :, 3]))

    def test_the_range_is_that_of_the_selected_channels(self) -> None:
        deep = RNG.integers(0, 65536, (H, W, 3), np.uint16)
        deep[:, :, 1] //= 100
        assert np.array_equal(
            read(imagecodecs.png_encode(deep), channels=(1,)), repeat_grey(stretch_minmax(deep[:, :, 1]))
        )


class TestBadFiles:
    def test_empty(self) -> None:
        assert "empty" in expect_refusal(b"").message

    @pytest.mark.parametrize("data", [b"\0", b"hello", b"GIF89a" + bytes(99), b"%PDF-1.7", b"RIFF1234WAVE"])
    def test_other_formats(self, data: bytes) -> None:
        assert "TIFF" in expect_refusal(data, UnsupportedFormat).remedy

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
    def test_truncated_anywhere(self, form: str) -> None:
        data = save_image(Image.fromarray(RGB), form)
        for length in [*range(1, 60), *range(60, len(data) - 16, 97)]:
            expect_refusal(data[:length])

    def test_truncated_16_bit_png(self) -> None:
        data = imagecodecs.png_encode(RNG.integers(0, 65536, (H, W, 3), np.uint16))
        for length in range(8, len(data) - 16, 97):
            expect_refusal(data[:length])

    def test_page_of_a_single_image(self) -> None:
        for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
            expect_refusal(save_image(Image.fromarray(RGB), form), field="page", page=1)

    def test_palette_too_short_for_its_indices(self) -> None:
        colours = RNG.integers(0, 65536, (3, 256), np.uint16)
        data = bytearray(write_tiff(GREY, photometric="palette", colormap=colours))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags[320]
        struct.pack_into("<I", data, tag.offset + 4, 3 * 16)
        expect_refusal(bytes(data))
