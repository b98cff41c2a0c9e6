"""Decompression bombs are refused before memory is taken."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.images.raster.png_chunks import MAX_PNG_CHUNKS
from segserve.images.raster.reader import MAX_DECODED_TIMES_LIMIT, MAX_RLE_BMP_PIXELS
from segserve.images.read_image import open_image
from segserve.images.tiff.reader import MAX_TIFF_SEGMENTS
from tests.images.decoding import (
    MAX_PIXELS,
    RGB,
    RNG,
    H,
    W,
    chunk,
    expect_refusal,
    patched_tiff,
    png_header,
    read,
)
from tests.images.sample_images import save_image, write_tiff


class TestBombs:
    @pytest.mark.parametrize("depth", [8, 16])
    def test_png_of_50_000_squared(self, depth: int) -> None:
        data = png_header(50_000, 50_000, depth)
        tracemalloc.start()
        error = expect_refusal(data, TooLarge)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()
        assert str(MAX_PIXELS) in error.remedy

    def test_limit_is_exact(self) -> None:
        data = save_image(Image.fromarray(RGB))
        assert read(data, max_pixels=H * W).shape == RGB.shape
        expect_refusal(data, TooLarge, max_pixels=H * W - 1)

    def test_limit_above_that_of_pillow(self) -> None:
        """Only the caller's limit counts: Pillow would warn of 90 and refuse 180 million pixels."""
        expect_refusal(png_header(14_000, 14_000), max_pixels=10**9)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP", "BMP", "TIFF"])
    def test_other_formats(self, form: str) -> None:
        expect_refusal(save_image(Image.fromarray(RGB), form), TooLarge, max_pixels=H * W - 1)

    @pytest.mark.parametrize("lossless", [False, True])
    def test_webp_of_16_383_squared(self, lossless: bool) -> None:
        data = bytearray(save_image(Image.fromarray(RGB), "WEBP", lossless=lossless))
        struct.pack_into("<I", data, 21 if lossless else 26, 0x3FFF3FFF)
        expect_refusal(bytes(data), TooLarge)

    def test_narrow_strip(self) -> None:
        expect_refusal(png_header(900_000, 1), TooLarge)

    def test_no_pixels(self) -> None:
        expect_refusal(png_header(0, 5))
        expect_refusal(patched_tiff({256: 0}))

    def test_tiff_of_many_pixels(self) -> None:
        expect_refusal(patched_tiff({256: 50_000, 257: 50_000}), TooLarge)

    def test_tiff_of_many_samples(self) -> None:
        expect_refusal(patched_tiff({277: 60_000}, compression="deflate"), TooLarge, max_pixels=H * W)

    def test_tiff_of_large_tiles(self) -> None:
        expect_refusal(patched_tiff({322: 65_536, 323: 65_536}, tile=(16, 16)), BadInput)
        expect_refusal(
            patched_tiff({322: 65_536, 323: 65_536}, tile=(16, 16), compression="deflate"), BadInput
        )

    def test_tiff_of_tiny_tiles(self) -> None:
        expect_refusal(patched_tiff({322: 1, 323: 1}, tile=(16, 16), compression="deflate"))

    def test_tiff_whose_jpeg_is_larger(self) -> None:
        data = write_tiff(RGB, photometric="rgb", compression="jpeg", rowsperstrip=H)
        at = data.index(b"\xff\xc0") + 5
        assert struct.unpack_from(">HH", data, at) == (H, W)
        expect_refusal(data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :])

    def test_tiff_whose_pages_run_in_a_circle(self) -> None:
        data = bytearray(write_tiff(RNG.integers(0, 256, (3, H, W), np.uint8), photometric="minisblack"))
        (start,) = struct.unpack_from("<I", data, 4)
        for _ in range(3):
            last = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
            (start,) = struct.unpack_from("<I", data, last)
        struct.pack_into("<I", data, last, struct.unpack_from("<I", data, 4)[0])
        expect_refusal(bytes(data), page=9)

    def test_tiff_with_long_tags(self) -> None:
        entry = struct.pack("<HHII", 273, 4, 5_000_000, 8)
        expect_refusal(b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(20_000_000), TooLarge)

    def test_tiff_of_many_pages(self) -> None:
        page = b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(70_000))
        expect_refusal(b"II*\0\x08\0\0\0" + page, TooLarge)

    def test_tiff_whose_strips_are_all_the_file(self) -> None:
        data = bytearray(write_tiff(RGB, photometric="rgb", compression="deflate", rowsperstrip=1))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            lengths = file.pages.first.tags[279]
        kind = {3: "H", 4: "I"}[int(lengths.dtype)]
        struct.pack_into(f"<{H}{kind}", data, lengths.valueoffset, *([len(data) // 2] * H))
        expect_refusal(bytes(data))

    def test_frame_far_into_an_animation(self) -> None:
        frames = [Image.fromarray(np.roll(RGB, shift, axis=0)) for shift in range(20)]
        data = save_image(frames[0], "WEBP", save_all=True, append_images=frames[1:])
        expect_refusal(data, TooLarge, field="page", max_pixels=H * W, page=19)

    def test_frame_of_an_animation_that_takes_long_to_reach(self) -> None:
        frames = [Image.fromarray(np.roll(RGB, shift, axis=0)) for shift in range(6)]
        data = save_image(frames[0], "PNG", save_all=True, append_images=frames[1:])
        limit = RGB.shape[0] * RGB.shape[1]
        assert read(data, max_pixels=limit, page=MAX_DECODED_TIMES_LIMIT - 1).shape == RGB.shape
        expect_refusal(data, TooLarge, field="page", max_pixels=limit, page=MAX_DECODED_TIMES_LIMIT)

    def test_png_of_many_chunks(self) -> None:
        data = save_image(Image.fromarray(RGB))
        for at in (33, len(data) - 12):  # before the pixels and after them
            expect_refusal(data[:at] + chunk(b"teXt", b"") * MAX_PNG_CHUNKS + data[at:], TooLarge)
        start = data.index(b"IDAT") - 4
        expect_refusal(data[:start] + chunk(b"IDAT", b"") * MAX_PNG_CHUNKS + data[start:], TooLarge)
        assert np.array_equal(read(data[:33] + chunk(b"teXt", b"") * 99 + data[33:]), RGB)

    def test_bmp_of_run_lengths(self) -> None:
        """Pillow fills rows in Python: a file of two bytes a row."""
        for rows, error in ((MAX_RLE_BMP_PIXELS // 4096, None), (MAX_RLE_BMP_PIXELS // 4096 + 1, TooLarge)):
            head = struct.pack("<IiiHHIIiiII", 40, 4096, rows, 1, 8, 1, 2, 0, 0, 256, 0)
            data = b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + head + bytes(1024) + b"\0\1"
            if error:
                expect_refusal(data, error, max_pixels=10**9)
            else:
                assert open_image(io.BytesIO(data), 0, 10**9, 10**9).size.height == rows

    def test_tiff_of_many_tiles(self) -> None:
        side = 16 * (int(MAX_TIFF_SEGMENTS**0.5) + 1)
        count = (side // 16) ** 2
        assert count > MAX_TIFF_SEGMENTS
        tags = [
            (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (322, 3, 1, 16), (323, 3, 1, 16), (324, 4, count, 8), (325, 4, count, 8 + 4 * count),
        ]  # fmt: skip
        directory = (
            struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
        )
        data = b"II*\0" + struct.pack("<I", 8 + 8 * count) + bytes(8 * count) + directory
        expect_refusal(data, TooLarge, max_pixels=10**9)
