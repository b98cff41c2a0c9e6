"""PNG, JPEG, WebP and BMP are decoded as Pillow decodes them, with their EXIF orientation."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segserve.errors import TooLarge
from segserve.images.read_image import open_image, read_image
from segserve.types import ReadOptions
from tests.images.decoding import (
    GREY,
    MAX_PIXELS,
    RGB,
    RGBA,
    RNG,
    H,
    W,
    chunk,
    expect_refusal,
    nearly_equal,
    read,
    repeat_grey,
    stretch_minmax,
)
from tests.images.sample_images import ADAM7_PASSES, save_image


def interlaced(deep: NDArray[np.uint16], colour: int) -> bytes:
    """Encode [H, W, C] as a PNG in the seven passes of Adam7, unfiltered."""
    height, width = deep.shape[:2]
    rows = [row for x, y, across, down in ADAM7_PASSES for row in deep[y::down, x::across]]
    pixels = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 1)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


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


class TestMetadataAndBitfields:
    @pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"tEXt"])
    @pytest.mark.parametrize("deep", [False, True])
    def test_png_with_huge_texts(self, kind: bytes, deep: bool) -> None:
        values = RNG.integers(0, 65536, (H, W, 3), np.uint16) if deep else RGB
        png = bytes(imagecodecs.png_encode(values))
        text = zlib.compress(bytes(80_000_000))
        head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0", b"tEXt": b"k\0"}[kind]
        large = chunk(kind, head + text)
        source = open_image(
            io.BytesIO(png[:33] + large + large + png[33:-12] + large + png[-12:]), 0, H * W, H * W
        )
        assert np.array_equal(source.read().values, values)
        assert source.bands is not None
        assert np.array_equal(np.concatenate([band.values for band in source.bands()]), values)

    @pytest.mark.parametrize(
        ("bits", "masks"),
        [
            (32, (0xFF000000, 0x0FF0, 0x00FF0000)),
            (32, (0x3FF00000, 0x000FFC00, 0x000003FF)),
            (16, (0x0F00, 0x00F0, 0x000F)),
            (16, (0x001F, 0x07E0, 0xF800)),
        ],
    )
    @pytest.mark.parametrize("top_down", [False, True])
    def test_bmp_with_any_bit_fields(self, bits: int, masks: tuple[int, int, int], top_down: bool) -> None:
        fields = [RNG.integers(0, (mask // (mask & -mask)) + 1, (H, W)) for mask in masks]
        stored = sum(field * (mask & -mask) for field, mask in zip(fields, masks, strict=True))
        rows = np.zeros((H, -(-W * bits // 32) * 32 // bits), f"<u{bits // 8}")
        rows[:, :W] = stored if top_down else stored[::-1]
        header = struct.pack("<IiiHHI20x3I", 40, W, -H if top_down else H, 1, bits, 3, *masks)
        data = struct.pack("<2sIII", b"BM", 0, 0, 14 + len(header)) + header + rows.tobytes()
        expected = [np.rint(f * 255 / (m // (m & -m))) for f, m in zip(fields, masks, strict=True)]
        assert np.array_equal(read(data), np.stack(expected, axis=2))
        expect_refusal(data[:-3])
        expect_refusal(data, TooLarge, max_pixels=H * W - 1)

    def test_bmp_whose_masks_are_no_fields_is_refused(self) -> None:
        header = struct.pack("<IiiHHI20x3I", 40, W, H, 1, 32, 3, 0xF0F, 0, 1)
        expect_refusal(struct.pack("<2sIII", b"BM", 0, 0, 66) + header + bytes(4 * W * H))
