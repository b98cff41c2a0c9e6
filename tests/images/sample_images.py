"""Images in every format, by name: those that can be read in bands, and those that can only be read at once."""

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import Image

# Several bands, the last one lower.
H, W = 700, 91
RNG = np.random.default_rng(0)
RGB = np.asarray(Image.fromarray(RNG.integers(0, 256, (70, 10, 3), np.uint8)).resize((W, H)))
GREY = RGB[:, :, 0]
# Left, top and steps of each pass.
ADAM7_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
DEEP = RNG.integers(0, 65536, (H, W, 4)).astype(np.uint16)


def save_image(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def write_tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def encode_16_bit_png(channels: int) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(DEEP[:, :, :channels].squeeze())))


def convert_mode(mode: str) -> Image.Image:
    return Image.fromarray(RGB).convert(mode)


def quantize() -> Image.Image:
    return Image.fromarray(RGB).quantize(13)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def black_png(depth: int, colour: int, interlaced: bool, height: int, width: int) -> bytes:
    """Return a PNG of zeros. colour: PNG's colour type."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(1)
    parts = []
    for x, y, across, down in ADAM7_PASSES if interlaced else ((0, 0, 1, 1),):
        row = bytes(1 + (-(-(width - x) // across) * bits + 7) // 8)
        parts += [packer.compress(row) for _ in range(-(-(height - y) // down))]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = png_chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    data = png_chunk(b"IDAT", b"".join([*parts, packer.flush()]))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + palette + data + png_chunk(b"IEND", b"")


TILES = {"tile": (64, 48), "compression": "zlib", "predictor": True}
READ_IN_BANDS = {
    "png grey": save_image(convert_mode("L"), "PNG"),
    "png 1-bit": save_image(convert_mode("1"), "PNG"),
    "png 4-bit palette": save_image(quantize(), "PNG", bits=4),
    "png palette with transparency": save_image(quantize(), "PNG", transparency=3),
    "png grey with transparency": save_image(convert_mode("L"), "PNG", transparency=7),
    "png grey and alpha": save_image(convert_mode("LA"), "PNG"),
    "png colour": save_image(convert_mode("RGB"), "PNG"),
    "png colour and alpha": save_image(convert_mode("RGBA"), "PNG"),
    "png 16-bit grey": encode_16_bit_png(1),
    "png 16-bit grey and alpha": encode_16_bit_png(2),
    "png 16-bit colour": encode_16_bit_png(3),
    "png 16-bit colour and alpha": encode_16_bit_png(4),
    "jpeg grey": save_image(convert_mode("L"), "JPEG"),
    "jpeg colour": save_image(convert_mode("RGB"), "JPEG", quality=70),
    "jpeg 4:4:4": save_image(convert_mode("RGB"), "JPEG", subsampling=0),
    "jpeg cmyk": save_image(convert_mode("CMYK"), "JPEG"),
    "tiff one strip": write_tiff(DEEP[:, :, 0]),
    "tiff one strip, big-endian": write_tiff(DEEP[:, :, :3], byteorder=">", photometric="rgb"),
    "tiff strips": write_tiff(RGB, rowsperstrip=7),
    "tiff packed strips": write_tiff(RGB, rowsperstrip=7, compression="zlib"),
    "tiff tiles": write_tiff(RGB, **TILES),
    "tiff raw tiles": write_tiff(GREY, tile=(64, 48)),
    "tiff planar": write_tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
    "tiff planar tiles": write_tiff(
        np.moveaxis(DEEP, -1, 0), planarconfig="separate", photometric="rgb", **TILES
    ),
    "tiff floats": write_tiff(DEEP[:, :, :2].astype(np.float32) - 30_000, planarconfig="contig", **TILES),
    "tiff white is zero": write_tiff(GREY, photometric="miniswhite", **TILES),
    "tiff 1-bit": write_tiff(GREY > 99, rowsperstrip=5),
    "tiff palette": write_tiff(GREY, photometric="palette", colormap=DEEP[:256, :3, 0].T, **TILES),
    "tiff cmyk": write_tiff(np.dstack([RGB, GREY]), photometric="separated", **TILES),
    "tiff jpeg": write_tiff(RGB, tile=(64, 48), compression="jpeg"),
    "tiff of imagej, channels apart": write_tiff(
        np.moveaxis(DEEP, -1, 0), imagej=True, metadata={"axes": "CYX"}
    ),
    "tiff of ome, channels apart": write_tiff(
        np.moveaxis(DEEP, -1, 0), ome=True, metadata={"axes": "CYX"}, **TILES
    ),
    "tiff turned": write_tiff(RGB, extratags=[(274, "H", 1, 6, True)]),
}
READ_AT_ONCE = {
    "png interlaced": pyvips.Image.new_from_array(GREY).pngsave_buffer(interlace=True),
    "jpeg progressive": save_image(convert_mode("RGB"), "JPEG", progressive=True),
    "webp": save_image(convert_mode("RGB"), "WEBP", lossless=True),
    "bmp": save_image(convert_mode("RGB"), "BMP"),
}
