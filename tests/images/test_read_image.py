"""Image files are decoded as their formats say, or refused. Every file is created here."""

import gc
import io
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segserve.errors import BadInput, SegserveError, TooLarge, UnsupportedFormat
from segserve.images.raster.jpeg_header import read_frame_sizes
from segserve.images.read_image import read_image
from segserve.types import Normalise, ReadOptions, UInt8
from tests.images.sample_images import save_image, write_tiff

H, W = 24, 36
MAX_PIXELS = 1_000_000
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (H, W), np.uint8)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
RGBA = RNG.integers(0, 256, (H, W, 4), np.uint8)


def read(data: bytes, max_pixels: int = MAX_PIXELS, **options: Any) -> UInt8:
    image = read_image(data, ReadOptions(**options), max_pixels)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image


def expect_refusal(
    data: bytes, error: type[BadInput] = BadInput, field: str = "file", **options: Any
) -> BadInput:
    with pytest.raises(error) as caught:
        read(data, **options)
    assert caught.value.field == field
    assert caught.value.remedy
    return caught.value


def repeat_grey(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def stretch_minmax(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    return np.rint((values.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)


def stretch_percentile(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(values.astype(np.float64), (1, 99))
    return np.clip(np.rint((values.astype(np.float64) - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def nearly_equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Return whether both are equal except for values on the edge of rounding."""
    return bool(np.abs(left.astype(int) - right).max() <= 1)


class TestRaster:
    @pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
    def test_rgb(self, form: str) -> None:
        assert np.array_equal(read(save_image(Image.fromarray(RGB), form)), RGB)

    def test_lossless_webp(self) -> None:
        assert np.array_equal(read(save_image(Image.fromarray(RGB), "WEBP", lossless=True)), RGB)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP"])
    def test_lossy(self, form: str) -> None:
        data = save_image(Image.fromarray(RGB), form)
        assert np.array_equal(read(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    @pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
    def test_grey_is_repeated(self, form: str) -> None:
        assert np.array_equal(read(save_image(Image.fromarray(GREY), form)), repeat_grey(GREY))

    @pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
    def test_one_bit(self, form: str) -> None:
        bits = GREY > 99
        assert np.array_equal(
            read(save_image(Image.fromarray(bits), form)), repeat_grey(bits * np.uint8(255))
        )

    @pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
    def test_alpha_is_dropped_not_blended(self, form: str) -> None:
        exact = {"lossless": True, "exact": True} if form == "WEBP" else {}
        data = save_image(Image.fromarray(RGBA), form, **exact)
        assert np.array_equal(read(data), RGBA[:, :, :3])

    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    def test_grey_with_alpha(self, form: str) -> None:
        assert np.array_equal(
            read(save_image(Image.fromarray(RGBA[:, :, :2]), form)), repeat_grey(RGBA[:, :, 0])
        )

    @pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
    def test_palette(self, form: str) -> None:
        indexed = Image.fromarray(RGB).quantize(200)
        assert np.array_equal(read(save_image(indexed, form)), np.asarray(indexed.convert("RGB")))

    @pytest.mark.parametrize("transparency", [3, bytes(range(200))])
    def test_palette_with_transparency(self, transparency: int | bytes) -> None:
        indexed = Image.fromarray(RGB).quantize(200)
        expected = np.asarray(indexed.convert("RGB"))
        assert np.array_equal(read(save_image(indexed, transparency=transparency)), expected)

    def test_rgb_with_transparent_colour(self) -> None:
        assert np.array_equal(read(save_image(Image.fromarray(RGB), transparency=(1, 2, 3))), RGB)

    @pytest.mark.parametrize("form", ["JPEG", "TIFF"])
    def test_cmyk(self, form: str) -> None:
        data = save_image(Image.fromarray(RGBA, "CMYK"), form)
        assert nearly_equal(read(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_png_of_16_bits_keeps_them(self, channels: int) -> None:
        deep = RNG.integers(1000, 1200, (H, W, channels), np.uint16)
        expected = stretch_minmax(deep[:, :, : 3 if channels > 2 else 1])
        image = read(imagecodecs.png_encode(deep.squeeze()))
        assert np.array_equal(image, np.broadcast_to(expected, (H, W, 3)))

    @pytest.mark.parametrize("colour", [0, 2, 4, 6])
    def test_interlaced_png_of_16_bits(self, colour: int) -> None:
        deep = RNG.integers(0, 65536, (H, W, {0: 1, 2: 3, 4: 2, 6: 4}[colour]), np.uint16)
        assert np.array_equal(read(interlaced(deep, colour)), read(imagecodecs.png_encode(deep.squeeze())))

    def test_trailing_garbage(self) -> None:
        for form in ("PNG", "JPEG", "BMP", "TIFF"):
            data = save_image(Image.fromarray(RGB), form)
            assert np.array_equal(read(data + b"garbage" * 99), read(data))

    @pytest.mark.parametrize("form", ["PNG", "WEBP"])
    def test_page_is_the_frame_of_an_animation(self, form: str) -> None:
        frames = [Image.fromarray(np.roll(RGB, shift, axis=0)) for shift in range(3)]
        exact = {"lossless": True} if form == "WEBP" else {}
        data = save_image(frames[0], form, save_all=True, append_images=frames[1:], **exact)
        for page, frame in enumerate(frames):
            assert np.array_equal(read(data, page=page), np.asarray(frame))
        expect_refusal(data, page=3, field="page")

    def test_source_may_be_a_file_at_any_position(self) -> None:
        for form in ("PNG", "TIFF", "WEBP"):
            exact = {"lossless": True} if form == "WEBP" else {}
            file = io.BytesIO(save_image(Image.fromarray(RGB), form, **exact))
            file.seek(5)
            assert np.array_equal(read_image(file, ReadOptions(), MAX_PIXELS), RGB)


class TestOrientation:
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_is_applied(self, form: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = save_image(Image.fromarray(RGB), form, exif=exif)
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        assert np.array_equal(read(data), np.asarray(turned))

    def test_of_16_bit_png(self) -> None:
        deep = imagecodecs.png_encode(RNG.integers(0, 65536, (H, W), np.uint16))
        exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        data = deep[:33] + chunk(b"eXIf", exif) + deep[33:]
        assert np.array_equal(read(data), np.rot90(read(deep), -1))

    @pytest.mark.parametrize(
        "exif",
        [b"", b"II", b"nonsense", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01",
         b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"],
    )  # fmt: skip
    def test_damaged_exif_is_ignored(self, exif: bytes) -> None:
        data = save_image(Image.fromarray(RGB))
        assert np.array_equal(read(data[:33] + chunk(b"eXIf", exif) + data[33:]), RGB)


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


class TestNormalise:
    def test_none_stretches_deep_channels_together(self) -> None:
        deep = RNG.integers(0, 256, (H, W, 3), np.uint16) * np.array([1, 10, 100], np.uint16) + 7
        assert np.array_equal(read(write_tiff(deep, photometric="rgb")), stretch_minmax(deep))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
    def test_minmax_stretches_each_channel(self, dtype: type) -> None:
        values = (RGB // np.array([1, 3, 5], np.uint8)).astype(dtype)
        expected = np.stack([stretch_minmax(values[:, :, channel]) for channel in range(3)], axis=2)
        assert np.array_equal(
            read(write_tiff(values, photometric="rgb"), normalise=Normalise.MINMAX), expected
        )

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float32])
    def test_percentile_stretches_each_channel(self, dtype: type) -> None:
        values = (RGB // np.array([1, 3, 5], np.uint8)).astype(dtype)
        expected = np.stack([stretch_percentile(values[:, :, channel]) for channel in range(3)], axis=2)
        assert nearly_equal(
            read(write_tiff(values, photometric="rgb"), normalise=Normalise.PERCENTILE), expected
        )

    def test_large_image_in_blocks(self) -> None:
        values = RNG.random((700, 900)).astype(np.float32)
        assert np.array_equal(read(write_tiff(values)), repeat_grey(stretch_minmax(values)))
        deep = (values * 50_000).astype(np.uint16)
        assert nearly_equal(
            read(write_tiff(deep), normalise=Normalise.PERCENTILE), repeat_grey(stretch_percentile(deep))
        )

    @pytest.mark.parametrize("mode", list(Normalise))
    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
    def test_constant_becomes_zero(self, mode: Normalise, dtype: type) -> None:
        assert not read(write_tiff(np.full((H, W), 9, dtype)), normalise=mode).any()

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_nan_and_infinity_become_zero(self, mode: Normalise) -> None:
        values = RNG.random((H, W)).astype(np.float32)
        values[0, :3] = np.nan, np.inf, -np.inf
        values.view(np.uint32)[0, 3] = 0x7FA00000  # a signalling NaN
        image = read(write_tiff(values), normalise=mode)
        assert not image[0, :4].any()
        finite = values[np.isfinite(values)]
        expected = stretch_percentile(finite) if mode is Normalise.PERCENTILE else stretch_minmax(finite)
        assert nearly_equal(image[np.isfinite(values)][:, 0], expected)

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_an_image_without_finite_values_is_refused(self, mode: Normalise) -> None:
        expect_refusal(write_tiff(np.full((H, W), np.nan, np.float32)), normalise=mode)

    def test_one_channel_of_nan(self) -> None:
        values = RNG.random((H, W, 3)).astype(np.float32)
        values[:, :, 1] = np.nan
        image = read(write_tiff(values, photometric="rgb"), normalise=Normalise.MINMAX)
        assert not image[:, :, 1].any()
        assert image[:, :, 0].max() == 255

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_whole_range_of_float64(self, mode: Normalise) -> None:
        values = np.linspace(-1, 1, H * W).reshape(H, W) * 1.79e308
        image = read(write_tiff(values), normalise=mode)[:, :, 0].ravel()
        assert (np.diff(image.astype(int)) >= 0).all()

    def test_smallest_steps_of_float64(self) -> None:
        values = np.zeros((H, W))
        values[0, 0] = 5e-324
        assert read(write_tiff(values)).max() in (0, 255)


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


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def interlaced(deep: NDArray[np.uint16], colour: int) -> bytes:
    """Encode [H, W, C] as a PNG in the seven passes of Adam7, unfiltered."""
    height, width = deep.shape[:2]
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = [row for y, x, down, across in passes for row in deep[y::down, x::across]]
    pixels = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 1)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def patched_tiff(tags: dict[int, int], **write: Any) -> bytes:
    """Return a little-endian TIFF of RGB in which some of the first page's tags have the values of `tags`."""
    data = bytearray(write_tiff(RGB, photometric="rgb", byteorder="<", **write))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in tags:
            struct.pack_into("<HII", data, entry + 2, 4, 1, tags[tag])
    return bytes(data)


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


VALID: list[bytes] = [
    save_image(Image.fromarray(RGB)),
    save_image(Image.fromarray(RGB).quantize(100), transparency=b"\0\1\2"),
    save_image(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    imagecodecs.png_encode(RNG.integers(0, 65536, (H, W, 3), np.uint16)),
    save_image(Image.fromarray(RGB), "JPEG"),
    save_image(Image.fromarray(RGBA, "CMYK"), "JPEG", progressive=True),
    save_image(Image.fromarray(RGB), "WEBP"),
    save_image(Image.fromarray(RGBA), "WEBP", lossless=True),
    save_image(Image.fromarray(GREY > 9), "BMP"),
    save_image(Image.fromarray(RGB), "BMP"),
    write_tiff(RGB, photometric="rgb"),
    write_tiff(
        RGB.astype(np.float32), photometric="rgb", compression="deflate", predictor=True, bigtiff=True
    ),
    write_tiff(RGB.astype(np.uint16), photometric="rgb", compression="lzw", tile=(16, 16), byteorder=">"),
    write_tiff(RGB, photometric="rgb", compression="jpeg", tile=(16, 16)),
    write_tiff(GREY, compression="zstd", rowsperstrip=3),
    write_tiff(GREY > 9, compression="packbits"),
    write_tiff(GREY, photometric="palette", colormap=RNG.integers(0, 65536, (3, 256), np.uint16)),
    write_tiff(np.stack([GREY, GREY]), imagej=True, metadata={"axes": "CYX"}),
    write_tiff(np.stack([GREY, GREY]), ome=True, metadata={"axes": "CYX"}),
]
LIGHT = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def must_not_crash(data: bytes, page: int) -> None:
    try:
        read(data, page=page)
    except SegserveError as error:
        assert error.field in ("file", "page")  # noqa: PT017
        assert error.remedy  # noqa: PT017


class TestFuzz:
    @LIGHT
    @given(st.sampled_from([b"", *(data[:12] for data in VALID)]), st.binary(max_size=300), st.integers(0, 3))
    def test_random_bytes(self, start: bytes, rest: bytes, page: int) -> None:
        must_not_crash(start + rest, page)

    @settings(LIGHT, max_examples=1000)
    @given(
        st.sampled_from(VALID),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
        st.sampled_from([64, 512, 1 << 20]),
        st.integers(0, 2),
    )
    def test_changed_bytes(
        self, valid: bytes, changes: list[tuple[float, int]], within: int, page: int
    ) -> None:
        """Change bytes at the start, where headers are, or anywhere."""
        data = bytearray(valid)
        for position, value in changes:
            data[int(position * min(within, len(data)))] = value
        must_not_crash(bytes(data), page)

    @settings(LIGHT, max_examples=600)
    @given(
        st.sampled_from([data for data in VALID if data[:2] in (b"II", b"MM")]),
        st.integers(0, 20),
        st.integers(0, 11),
        st.sampled_from([0, 1, 2, 7, 12, 0x7F, 0xFF]),
        st.integers(0, 1),
    )
    def test_changed_tags(self, valid: bytes, entry: int, at: int, value: int, page: int) -> None:
        data = bytearray(valid)
        order = "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack_from(order + "I", data, 4)
        data[(start + 2 + 12 * entry + at) % len(data)] = value
        must_not_crash(bytes(data), page)

    @pytest.mark.parametrize("valid", VALID)
    def test_damage_costs_no_references(self, valid: bytes) -> None:
        """Before Python 3.12 a codec that drops a reference to None ends the process after some thousand files."""
        must_not_crash(valid[:-60], 0)
        gc.collect()  # objects left by earlier tests hold references too
        before = sys.getrefcount(None)
        for _ in range(300):
            must_not_crash(valid[:-60], 0)
        assert before - sys.getrefcount(None) < 200


class TestFrameSizes:
    def test_finds_every_frame(self) -> None:
        frame = b"\xff\xc2\0\x0b\x08\0\x10\0\x20\x01\x01\x11\0"
        stream = b"\xff\xd8\xff\xe0\0\x04ab" + b"junk" + b"\xff" + frame + frame + b"\xff\xda\0\x02"
        assert read_frame_sizes(stream + frame) == [(16, 32), (16, 32)]

    def test_ends(self) -> None:
        assert (
            read_frame_sizes(b"")
            == read_frame_sizes(b"\xff\xd8\xff")
            == read_frame_sizes(b"\xff\xd8\xff\xd9")
            == []
        )
