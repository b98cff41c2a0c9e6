"""Pictures that a sandboxed process decodes: detection of the format, headers, and all of PNM and PSD.

The other formats are decoded by native libraries, which `mutators/native_pictures.py` runs in such processes.
"""

import io
from collections.abc import Iterable

import imagecodecs
import numpy as np

from segserve.images.formats import detect_image_format
from segserve.images.open_any_image import open_any_image
from tests.fuzz.harnesses.harness import Harness, expect_refusals
from tests.images.sandboxed.picture_files import (
    save,
    write_16_bit_pnm,
    write_heic,
    write_pam,
    write_pfm,
    write_psd,
)

MAX_PIXELS = 1 << 14
GREY = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7) * 7
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
DEEP = GREY.astype(np.uint16) * 257


def read_header(data: bytes) -> None:
    with expect_refusals():
        detect_image_format(io.BytesIO(data))
    with expect_refusals():
        source = open_any_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
        assert 0 < source.size.height * source.size.width <= MAX_PIXELS
        assert source.memory.channels > 0
        assert source.memory.read_bytes >= source.decoded_bytes


def read_pixels(data: bytes) -> None:
    with expect_refusals():
        source = open_any_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
        pixels = source.read()
        assert pixels.values.shape[:2] == (source.size.height, source.size.width)
        assert pixels.values.shape[2] <= source.memory.channels
        assert pixels.values.dtype.itemsize <= source.memory.dtype.itemsize


def pnm_seeds() -> Iterable[bytes]:
    yield b"P1\n# bits\n3 2\n1 0 1\n0 1 0\n"
    yield b"P2 3 2 15\n1 2 3\n4 5 15\n"
    yield b"P3 2 1 255 1 2 3 4 5 6 "
    yield b"P4 9 2\n\xaa\x80\x55\0"
    yield save(RGB, "PPM")
    yield write_16_bit_pnm(DEEP)
    yield write_pfm(RGB.astype(np.float32))
    yield write_pam(np.dstack([RGB, GREY]), "RGB_ALPHA", 255)


def psd_seeds() -> Iterable[bytes]:
    planes = [RGB[:, :, channel] for channel in range(3)]
    yield write_psd(planes, 3, run_lengths=True)
    yield write_psd(planes, 3, run_lengths=False, large=True)
    yield write_psd([GREY], 2, run_lengths=True, palette=bytes(768))
    yield write_psd([GREY > 9], 0, run_lengths=False)
    yield write_psd([DEEP], 1, run_lengths=True)


def codestream_seeds() -> Iterable[bytes]:
    """Formats whose headers are read by code of our own before a library sees the file."""
    yield bytes(imagecodecs.jpeg2k_encode(RGB, level=0))
    yield bytes(imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k"))
    yield bytes(imagecodecs.jpegxl_encode(RGB))
    yield save(RGB, "GIF")
    yield save(RGB, "TGA", compression="tga_rle")


def native_seeds() -> Iterable[bytes]:
    """Formats that a library reads from the first byte."""
    yield write_heic(RGB)
    yield bytes(imagecodecs.avif_encode(RGB))
    yield bytes(imagecodecs.jpeg_encode(RGB, lossless=True))
    yield bytes(imagecodecs.jpegls_encode(GREY))


NAMES = (b"P1\n", b"P5 ", b"P7\n", b"PF\n", b"ENDHDR\n", b"MAXVAL ", b"DEPTH ", b"TUPLTYPE ", b"#", b"-1.0")
BOXES = (b"jp2h", b"ihdr", b"colr", b"jp2c", b"JXL ", b"jxlc", b"jxlp", b"ftyp", b"\xff\x4f\xff\x51")
HARNESSES = (
    Harness("pnm", read_pixels, pnm_seeds, NAMES),
    Harness("psd", read_pixels, psd_seeds, (b"8BPS", b"8BIM")),
    Harness("picture_headers", read_header, codestream_seeds, BOXES),
)
