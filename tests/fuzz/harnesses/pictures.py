"""Pictures: PNG, JPEG, WebP, BMP and TIFF, from their headers to their pixels; EXIF."""

import io
import logging
import struct
import zlib
from collections.abc import Iterable
from functools import partial

import imagecodecs
import numpy as np
from PIL import Image

from segserve.images.image_source import ImageSource, NeedsSandbox
from segserve.images.raster.jpeg_layout import read_jpeg_layout
from segserve.images.read_image import decode_source, open_image
from segserve.images.tiff.directories import read_directory_offsets
from segserve.images.tiff.reader import count_pages
from segserve.types import Normalise, ReadOptions, UInt8
from tests.fuzz.harnesses.harness import Harness, expect_refusals
from tests.images.decoding import GREY, RGB, RGBA
from tests.images.sample_images import save_image, write_tiff

MAX_PIXELS = 1 << 15
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # as the service does
DEEP = np.arange(9 * 13 * 3, dtype=np.uint16).reshape(9, 13, 3) * 185
PALETTE = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 85
SMALL = slice(None, 9), slice(None, 13)  # seeds stay short, so that mutations hit headers


def read_all(data: bytes, pages: int = 2) -> None:
    """Decode some pages at once and in bands, with and without stretching of values."""
    for page in range(pages):
        with expect_refusals():
            source = open_image(io.BytesIO(data), page, MAX_PIXELS, MAX_PIXELS)
            normalise = Normalise.PERCENTILE if page else Normalise.NONE
            image = decode_source(source, ReadOptions(page, normalise=normalise))
            check_pixels(image)
            check_bands(open_image(io.BytesIO(data), page, MAX_PIXELS, MAX_PIXELS))


def check_pixels(image: UInt8) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert 1 <= image.shape[0] * image.shape[1] <= MAX_PIXELS


def check_bands(source: ImageSource) -> None:
    """Check that bands are as large as the header said, together and each."""
    if source.bands is None:
        return
    rows = 0
    for band in source.bands():
        assert band.values.shape[1] == source.size.width
        assert band.values.shape[0] <= max(source.memory.band_rows, 1)
        rows += band.values.shape[0]
    assert rows == source.size.height


def read_png(data: bytes) -> None:
    read_all(correct_png_checksums(data))


def correct_png_checksums(data: bytes) -> bytes:
    """Return the PNG with right checksums, so that its decoder looks at changed chunks."""
    out, at = bytearray(data), len(PNG_SIGNATURE)
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def read_jpeg_headers(data: bytes) -> None:
    with expect_refusals():
        layout = read_jpeg_layout(io.BytesIO(data))
        assert min(layout.scans, layout.scan_blocks, layout.coefficient_bytes) >= 0
        if all(map(all, layout.frames)):  # no side is 0
            assert layout.has_many_scans or layout.scans <= 1


def read_tiff_directories(data: bytes) -> None:
    with expect_refusals():
        offsets = read_directory_offsets(io.BytesIO(data))
        assert len(set(offsets)) == len(offsets) > 0
    with expect_refusals():
        assert count_pages(io.BytesIO(data)) >= 0


def read_exif(block: bytes) -> None:
    """Read a picture whose EXIF is `block`. Damage must not change more than whether it is turned."""
    data = bytearray(save_image(Image.fromarray(RGB[SMALL]), "JPEG"))
    segment = b"Exif\0\0" + block[:60_000]
    data[2:2] = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    try:
        source = open_image(io.BytesIO(bytes(data)), 0, MAX_PIXELS, MAX_PIXELS)
    except NeedsSandbox:  # the block has DICOM's mark where DICOM has it
        return
    assert 1 <= source.orientation <= 8
    assert sorted(decode_source(source, ReadOptions()).shape[:2]) == sorted(RGB[SMALL].shape[:2])


def png_seeds() -> Iterable[bytes]:
    yield save_image(Image.fromarray(RGB[SMALL]))
    yield save_image(Image.fromarray(RGB[SMALL]).quantize(9), transparency=b"\0\1\2")
    yield save_image(Image.fromarray(RGB[SMALL]), save_all=True, append_images=[Image.fromarray(GREY[SMALL])])
    yield save_image(Image.fromarray(GREY[SMALL] > 9))
    yield bytes(imagecodecs.png_encode(DEEP))


def jpeg_seeds() -> Iterable[bytes]:
    yield save_image(Image.fromarray(RGB[SMALL]), "JPEG")
    yield save_image(Image.fromarray(GREY[SMALL]), "JPEG", optimize=True)
    yield save_image(Image.fromarray(RGBA[SMALL], "CMYK"), "JPEG", progressive=True)
    yield save_image(Image.fromarray(RGB[SMALL]), "JPEG", restart_marker_blocks=1, exif=exif_block())


def webp_seeds() -> Iterable[bytes]:
    yield save_image(Image.fromarray(RGB[SMALL]), "WEBP")
    yield save_image(Image.fromarray(RGBA[SMALL]), "WEBP", lossless=True)
    frames = [Image.fromarray(RGB[SMALL]), Image.fromarray(255 - RGB[SMALL])]
    yield save_image(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def bmp_seeds() -> Iterable[bytes]:
    yield save_image(Image.fromarray(RGB[SMALL]), "BMP")
    yield save_image(Image.fromarray(GREY[SMALL] > 9), "BMP")
    yield save_image(Image.fromarray(RGB[SMALL]).quantize(9), "BMP")
    yield run_length_bmp()


def run_length_bmp() -> bytes:
    """A BMP of 4 x 2 pixels by run lengths (BI_RLE8)."""
    palette, pixels = bytes(range(256)) * 4, bytes([4, 1, 0, 0, 0, 4, 1, 2, 3, 4, 0, 1])
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + header + palette + pixels


def tiff_seeds() -> Iterable[bytes]:
    rgb, grey = RGB[SMALL], GREY[SMALL]
    yield write_tiff(rgb, photometric="rgb")
    yield write_tiff(
        rgb.astype(np.float32), photometric="rgb", compression="deflate", predictor=True, bigtiff=True
    )
    yield write_tiff(
        rgb.astype(np.uint16), photometric="rgb", compression="lzw", tile=(16, 16), byteorder=">"
    )
    yield write_tiff(rgb, photometric="rgb", compression="jpeg", tile=(16, 16))
    yield write_tiff(grey, compression="zstd", rowsperstrip=3)
    yield write_tiff(grey > 9, compression="packbits")
    yield write_tiff(grey, photometric="palette", colormap=PALETTE)
    yield write_tiff(np.stack([grey, grey]), imagej=True, metadata={"axes": "CYX"})
    yield write_tiff(np.stack([grey, grey]), ome=True, metadata={"axes": "CYX"})
    yield write_tiff(np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate")
    yield write_tiff(grey, extratags=[(274, "H", 1, 6, True)])


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def exif_seeds() -> Iterable[bytes]:
    for order in "<>":
        magic = {"<": b"II", ">": b"MM"}[order]
        head = magic + struct.pack(order + "HI", 42, 8)
        yield head + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
        yield head + struct.pack(order + "HHHIHHHHIII", 2, 0x010F, 2, 4, 0, 0, 0x0112, 3, 1, 3, 0)
    yield exif_block().removeprefix(b"Exif\0\0")


# Tags of TIFF that say how much there is, little- and big-endian: sides, bits, compression, offsets, samples, counts.
TIFF_WORDS = tuple(
    number.to_bytes(2, order)
    for number in (
        256,
        257,
        258,
        259,
        262,
        273,
        274,
        277,
        278,
        279,
        284,
        317,
        320,
        322,
        323,
        324,
        325,
        338,
        339,
        347,
    )
    for order in ("little", "big")
)
JPEG_WORDS = tuple(bytes([0xFF, marker]) for marker in (*range(0xC0, 0xE2), 0xFE))
HARNESSES = (
    Harness(
        "png", read_png, png_seeds, (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iTXt")
    ),
    Harness(
        "jpeg",
        partial(read_all, pages=1),
        jpeg_seeds,
        JPEG_WORDS,
    ),
    Harness("jpeg_layout", read_jpeg_headers, jpeg_seeds, JPEG_WORDS),
    Harness("webp", read_all, webp_seeds, (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"EXIF")),
    Harness("bmp", partial(read_all, pages=1), bmp_seeds),
    Harness("tiff", read_all, tiff_seeds, TIFF_WORDS),
    Harness("tiff_directories", read_tiff_directories, tiff_seeds, TIFF_WORDS),
    Harness("exif", read_exif, exif_seeds),
)
