"""Every format that a sandboxed process decodes gives the pixels that other readers give."""

import io
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.images.formats import IMAGE_FORMATS, detect_image_format
from segserve.images.image_source import NeedsSandbox, RawPixels
from segserve.images.open_any_image import open_any_image
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import open_image
from tests.images.sandboxed.picture_files import (
    DEEP,
    GREY,
    RGB,
    RNG,
    H,
    W,
    box,
    save,
    write_16_bit_pnm,
    write_heic,
    write_pam,
    write_pfm,
    write_psd,
)

MAX_PIXELS = 1_000_000


def decode(data: bytes, page: int = 0) -> RawPixels:
    source = open_any_image(io.BytesIO(data), page, MAX_PIXELS, MAX_PIXELS)
    pixels = source.read()
    assert pixels.values.shape[:2] == (source.size.height, source.size.width)
    assert pixels.values.shape[2] <= source.memory.channels
    assert pixels.values.dtype.itemsize <= source.memory.dtype.itemsize
    return pixels


def values_of(data: bytes, page: int = 0) -> NDArray[Any]:
    """Return the samples, [H, W] where there is one channel, turned as the file states."""
    pixels = decode(data, page)
    turned = apply_orientation(pixels.values, pixels.orientation)
    return turned[:, :, 0] if turned.shape[2] == 1 else turned


def reads_by_opencv(data: bytes) -> NDArray[Any]:
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    return np.ascontiguousarray(read[:, :, [2, 1, 0]]) if read.ndim == 3 else read


def refuse(data: bytes, error: type[BadInput] = BadInput, max_pixels: int = MAX_PIXELS) -> BadInput:
    with pytest.raises(error) as caught:
        open_any_image(io.BytesIO(data), 0, max_pixels, max_pixels).read()
    assert caught.value.remedy
    assert caught.value.field == "file"
    return caught.value


def is_near(left: NDArray[Any], right: NDArray[Any], limit: int = 1) -> bool:
    return left.shape == right.shape and int(np.abs(left.astype(int) - right.astype(int)).max()) <= limit


GIF = save(Image.fromarray(RGB).quantize(60), "GIF")
JP2 = save(RGB, "JPEG2000", irreversible=False)
JXL = bytes(imagecodecs.jpegxl_encode(RGB, lossless=True))
AVIF = save(RGB, "AVIF", quality=90, subsampling="4:4:4")
TGA = save(RGB, "TGA")
PPM = save(RGB, "PPM")
PSD = write_psd([RGB[:, :, c] for c in range(3)], 3, run_lengths=True)
LOSSLESS_JPEG = bytes(imagecodecs.ljpeg_encode(DEEP, bitspersample=16))
JPEG_LS = bytes(imagecodecs.jpegls_encode(GREY))
SANDBOXED = {
    "gif": GIF,
    "jp2": JP2,
    "jxl": JXL,
    "avif": AVIF,
    "tga": TGA,
    "ppm": PPM,
    "psd": PSD,
    "lossless jpeg": LOSSLESS_JPEG,
    "jpeg-ls": JPEG_LS,
}


class TestWhere:
    @pytest.mark.parametrize("name", SANDBOXED)
    def test_the_service_itself_decodes_none_of_them(self, name: str) -> None:
        with pytest.raises(NeedsSandbox):
            open_image(io.BytesIO(SANDBOXED[name]), 0, MAX_PIXELS, MAX_PIXELS)

    @pytest.mark.parametrize("name", SANDBOXED)
    def test_a_cut_file_is_refused_or_read_without_a_crash(self, name: str) -> None:
        for length in (len(SANDBOXED[name]) * n // 7 for n in range(7)):
            try:
                decode(SANDBOXED[name][:length])
            except BadInput as error:
                assert error.remedy  # noqa: PT017

    @pytest.mark.parametrize("name", SANDBOXED)
    def test_the_limit_of_pixels_is_exact(self, name: str) -> None:
        open_any_image(io.BytesIO(SANDBOXED[name]), 0, H * W, H * W)
        refuse(SANDBOXED[name], TooLarge, H * W - 1)


class TestGif:
    def test_first_frame(self) -> None:
        expected = pyvips.Image.gifload_buffer(GIF).numpy()[:, :, :3]
        assert np.array_equal(values_of(GIF), expected)

    def test_any_frame_of_an_animation(self) -> None:
        frames = [Image.fromarray(np.full((H, W, 3), 40 * n, np.uint8)) for n in range(5)]
        data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert [int(values_of(data, page)[5, 5, 0]) for page in range(5)] == [0, 40, 80, 120, 160]
        with pytest.raises(BadInput, match="no page 5"):
            decode(data, 5)


class TestHeic:
    pytest.importorskip("pillow_heif")

    def test_colour_and_grey_without_loss(self) -> None:
        assert np.array_equal(values_of(write_heic(RGB)), RGB)
        assert is_near(np.atleast_3d(values_of(write_heic(GREY, matrix_coefficients=1)))[:, :, 0], GREY)

    def test_a_lossy_one_is_near(self) -> None:
        assert is_near(values_of(write_heic(RGB, quality=95, matrix_coefficients=1)), RGB, 20)

    def test_rotation_is_applied_once(self) -> None:
        import pillow_heif

        exif = Image.Exif()
        exif[0x0112] = 6
        heif = pillow_heif.HeifFile()
        heif.add_frombytes("RGB", (W, H), RGB.tobytes()).info["exif"] = exif.tobytes()
        out = io.BytesIO()
        heif.save(out, quality=-1, chroma=444, matrix_coefficients=0)
        assert b"irot" in out.getvalue()
        assert np.array_equal(values_of(out.getvalue()), np.rot90(RGB, -1))

    def test_the_primary_image_comes_first(self) -> None:
        import pillow_heif

        heif = pillow_heif.HeifFile()
        for value in (10, 200):
            plane = np.full((H, W, 3), value, np.uint8)
            heif.add_frombytes("RGB", (W, H), plane.tobytes())
        out = io.BytesIO()
        heif.save(out, quality=-1, primary_index=1, save_all=True)
        assert abs(int(values_of(out.getvalue())[5, 5, 0]) - 200) < 3
        assert abs(int(values_of(out.getvalue(), 1)[5, 5, 0]) - 10) < 3

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        data = bytearray(write_heic(RGB))
        at = data.index(b"ispe") + 8
        data[at : at + 8] = (50_000).to_bytes(4, "big") * 2
        refuse(bytes(data))


class TestAvif:
    def test_8_bit(self) -> None:
        assert is_near(values_of(AVIF), np.asarray(imagecodecs.avif_decode(AVIF)))

    def test_10_bit_is_shown_as_viewers_show_it(self) -> None:
        data = bytes(imagecodecs.avif_encode((RGB.astype(np.uint16) << 2), level=95, bitspersample=10))
        assert is_near(values_of(data), np.asarray(imagecodecs.avif_decode(data)) >> 2, 2)

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        data = bytearray(AVIF)
        at = data.index(b"ispe") + 8
        data[at : at + 8] = (16_000).to_bytes(4, "big") * 2
        refuse(bytes(data))


class TestJpeg2000:
    @pytest.mark.parametrize(
        "values", [RGB, GREY, DEEP, np.dstack([RGB, GREY])], ids=["rgb", "grey", "16-bit", "rgba"]
    )
    @pytest.mark.parametrize("codec", ["jp2", "j2k"])
    def test_without_loss(self, values: NDArray[Any], codec: str) -> None:
        data = bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat=codec))
        pixels = decode(data)
        assert np.array_equal(pixels.values.squeeze(), values)
        if values.ndim == 2:
            assert np.array_equal(pixels.values[:, :, 0], reads_by_opencv(data))

    def test_deep_colour_keeps_its_bits(self) -> None:
        deep = RNG.integers(0, 4096, (H, W, 3)).astype(np.uint16)
        data = bytes(imagecodecs.jpeg2k_encode(deep, level=0, bitspersample=12))
        assert np.array_equal(values_of(data), deep)

    def test_a_palette_becomes_colour(self) -> None:
        assert np.array_equal(values_of(JP2), reads_by_opencv(JP2))

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        data = bytearray(JP2)
        at = data.index(b"\xff\x51") + 6
        data[at : at + 8] = (60_000).to_bytes(4, "big") * 2
        assert "60000 x 60000" in refuse(bytes(data), TooLarge).message


class TestJpegXl:
    @pytest.mark.parametrize(
        "values",
        [RGB, GREY, DEEP, np.dstack([RGB, GREY]), RGB.astype(np.float32) / 255],
        ids=["rgb", "grey", "16-bit", "rgba", "float"],
    )
    @pytest.mark.parametrize("container", [False, True])
    def test_without_loss(self, values: NDArray[Any], container: bool) -> None:
        data = bytes(imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=container))
        assert np.array_equal(decode(data).values.squeeze(), values)

    @pytest.mark.parametrize("shape", [(16, 32), (1, 1), (200, 300), (513, 9), (24, 8)])
    def test_size_in_the_header(self, shape: tuple[int, int]) -> None:
        """Small sides, ratios, and large ones are written in different ways."""
        data = bytes(imagecodecs.jpegxl_encode(np.zeros(shape, np.uint8), lossless=True))
        source = open_any_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
        assert (source.size.height, source.size.width) == shape
        assert decode(data).values.shape[:2] == shape

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        # Not small, height of 30 bits, ratio 1.
        bits = 0 | 3 << 1 | (49_999) << 3 | 1 << 33
        refuse(b"\xff\x0a" + bits.to_bytes(8, "little") + bytes(40), TooLarge)


class TestPnm:
    @pytest.mark.parametrize("values", [RGB, GREY, GREY > 90], ids=["ppm", "pgm", "pbm"])
    def test_binary(self, values: NDArray[Any]) -> None:
        data = save(values, "PPM")
        assert np.array_equal(
            values_of(data),
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB" if values.ndim == 3 else "L")),
        )

    @pytest.mark.parametrize("values", [RGB, GREY], ids=["ppm", "pgm"])
    @pytest.mark.parametrize("max_value", [255, 100, 1000])
    def test_plain_with_comments(self, values: NDArray[Any], max_value: int) -> None:
        number = 3 if values.ndim == 3 else 2
        scaled = values.astype(int) * max_value // 255
        text = "\n".join(" ".join(map(str, row)) + " # a row" for row in scaled.reshape(H, -1))
        data = f"P{number}\n# by hand\n{W} # wide\n{H}\n{max_value}\n{text}\n".encode()
        full = 255 if max_value < 256 else 65535
        assert is_near(values_of(data), np.rint(scaled / max_value * full), 0)

    def test_plain_bits_need_no_spaces(self) -> None:
        bits = GREY > 90
        rows = "\n".join("".join("01"[int(bit)] for bit in row) for row in bits)
        assert np.array_equal(values_of(f"P1 {W} {H}\n{rows}".encode()), np.where(bits, 0, 255))

    def test_16_bit_keeps_its_bits(self) -> None:
        for values in (DEEP, np.dstack([DEEP, DEEP[::-1], DEEP.T.reshape(H, W)])):
            data = write_16_bit_pnm(values)
            assert np.array_equal(values_of(data), values)
            assert np.array_equal(reads_by_opencv(data), values)

    def test_floats_begin_at_the_bottom(self) -> None:
        for values in (GREY.astype(np.float32) / 7, RGB.astype(np.float32)):
            assert np.array_equal(values_of(write_pfm(values)), values)
            assert np.array_equal(reads_by_opencv(write_pfm(values)), values)

    def test_pam(self) -> None:
        rgba = np.dstack([RGB, GREY])
        pixels = decode(write_pam(rgba, "RGB_ALPHA", 255))
        assert np.array_equal(pixels.values, rgba)
        assert pixels.has_alpha
        assert np.array_equal(values_of(write_pam(DEEP[:, :, None], "GRAYSCALE", 65535)), DEEP)

    def test_bombs_and_lies(self) -> None:
        refuse(b"P5 60000 60000 255\n", TooLarge)
        refuse(b"P2 60000 60000 255\n", TooLarge)
        refuse(b"P5 100 100 255\n1234")
        numbers = np.zeros(100, np.int64)  # memory that the next array of this size is likely to get
        del numbers
        refuse(b"P2 10 10 255\n1 2 3")
        refuse(b"P2 3 1 255\n1 2 256")
        refuse(b"P5 99999999999 1 255\n")
        refuse(b"P7\nWIDTH 9\nHEIGHT 9\nDEPTH 9\nMAXVAL 255\nENDHDR\n" + bytes(729), UnsupportedFormat)


class TestPsd:
    @pytest.mark.parametrize("run_lengths", [False, True])
    def test_modes(self, run_lengths: bool) -> None:
        planes = [RGB[:, :, c] for c in range(3)]
        data = write_psd(planes, 3, run_lengths=run_lengths)
        assert np.array_equal(values_of(data), np.asarray(Image.open(io.BytesIO(data))))
        assert np.array_equal(values_of(data), RGB)
        with_alpha = write_psd([*planes, GREY], 3, run_lengths=run_lengths)
        assert np.array_equal(values_of(with_alpha), RGB)
        assert np.array_equal(values_of(write_psd([GREY], 1, run_lengths=run_lengths)), GREY)
        assert np.array_equal(values_of(write_psd([DEEP], 1, run_lengths=run_lengths)), DEEP)
        bits = (GREY > 90).astype(np.uint8)
        assert np.array_equal(values_of(write_psd([bits], 0, run_lengths=run_lengths)), 255 * (1 - bits))
        palette = RNG.integers(0, 256, (3, 256), np.uint8)
        indexed = write_psd([GREY], 2, run_lengths=run_lengths, palette=palette.tobytes())
        assert np.array_equal(values_of(indexed), palette.T[GREY])
        assert np.array_equal(values_of(write_psd(planes, 3, run_lengths=run_lengths, large=True)), RGB)

    def test_cmyk_as_pillow_has_it(self) -> None:
        planes = list(RNG.integers(0, 256, (4, H, W), np.uint8))
        data = write_psd(planes, 4, run_lengths=True)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert is_near(values_of(data), expected)

    def test_bombs_and_lies(self) -> None:
        data = bytearray(PSD)
        data[14:22] = (29_999).to_bytes(4, "big") * 2
        refuse(bytes(data), TooLarge)
        refuse(PSD[:-5])
        lab = bytearray(PSD)
        lab[25] = 9
        assert "Lab" in refuse(bytes(lab), UnsupportedFormat).message


class TestTga:
    @pytest.mark.parametrize("rle", [False, True])
    @pytest.mark.parametrize("mode", ["RGB", "L", "P"])
    def test_modes(self, mode: str, rle: bool) -> None:
        image = Image.fromarray(RGB).convert(mode)
        data = save(image, "TGA", compression="tga_rle" if rle else None)
        expected = np.asarray(image.convert("RGB") if mode == "P" else image)
        assert np.array_equal(values_of(data), expected)

    def test_what_is_no_tga_is_refused_as_unknown(self) -> None:
        for data in (bytes(18), bytes(400), b"\0\0\2" + bytes(300), TGA[:60], b"hello, this is text " * 9):
            assert "no image format" in refuse(data, UnsupportedFormat).message

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        head = bytearray(TGA[:18])
        head[2] = 10
        head[12:16] = (60_000).to_bytes(2, "little") * 2
        refuse(bytes(head) + bytes(60_000_000), TooLarge)


class TestRareJpeg:
    def test_lossless(self) -> None:
        assert np.array_equal(values_of(LOSSLESS_JPEG), DEEP)

    def test_12_bit(self) -> None:
        deep = GREY.astype(np.uint16) << 4
        data = bytes(imagecodecs.jpeg8_encode(deep, level=100, bitspersample=12))
        assert is_near(values_of(data), deep, 24)
        assert np.array_equal(values_of(data), imagecodecs.jpeg8_decode(data))

    def test_jpeg_ls(self) -> None:
        assert np.array_equal(values_of(JPEG_LS), GREY)

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        for data in (LOSSLESS_JPEG, JPEG_LS):
            at = next(
                data.index(bytes([0xFF, marker])) for marker in (0xC3, 0xF7) if bytes([0xFF, marker]) in data
            )
            bomb = data[: at + 5] + (60_000).to_bytes(2, "big") * 2 + data[at + 9 :]
            refuse(bomb, TooLarge)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"II\xbc\x01" + bytes(40), "JPEG XR"),
        (b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR"),
        (b"%PDF-1.7", "PDF"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "HTML"),
        (b"\0\0\1\0\1\0", "ICO"),
        (box(b"ftyp", b"isom\0\0\2\0isomavc1"), "A video"),
        (box(b"ftyp", b"crx \0\0\0\1crx isom"), "Canon raw"),
        (b"PK\3\4" + bytes(40), "A zip"),
        (b"qoif" + bytes(40), "QOI"),
        (b"P7 332\n#XVVERSION", "XV thumbnail"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, name: str) -> None:
    error = refuse(data, UnsupportedFormat)
    assert error.message.startswith(name)
    assert error.message.endswith("is not read.")


def test_formats_are_told_apart() -> None:
    assert [detect_image_format(io.BytesIO(data)).name for data in (GIF, JP2, JXL, AVIF, TGA, PPM, PSD)] == [
        "GIF",
        "JPEG 2000",
        "JPEG XL",
        "AVIF",
        "TGA",
        "PNM",
        "PSD",
    ]
    suffixes = [suffix for known in IMAGE_FORMATS for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes))
