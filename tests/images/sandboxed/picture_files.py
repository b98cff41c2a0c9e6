"""Pictures in the formats that a sandboxed process decodes, made by other libraries or written byte by byte."""

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng(5)
H, W = 24, 36
# Smooth, so that lossy codecs stay near.
RGB = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (6, 9, 3), np.uint8)).resize((W, H), Image.Resampling.BICUBIC)
)
GREY = np.ascontiguousarray(RGB[:, :, 0])
DEEP = (GREY.astype(np.uint16) << 8) + RGB[:, :, 1]


def save(image: NDArray[Any] | Image.Image, file_format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, file_format, **options)
    return out.getvalue()


def write_heic(values: NDArray[Any], **options: Any) -> bytes:
    """Return a HEIC. Lossless unless `quality` says otherwise."""
    import pillow_heif

    mode = {2: "L", 3: "RGB"}[values.ndim] if values.ndim == 2 or values.shape[2] == 3 else "RGBA"
    out = io.BytesIO()
    defaults = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    pillow_heif.encode(
        mode, (values.shape[1], values.shape[0]), values.tobytes(), out, **{**defaults, **options}
    )
    return out.getvalue()


def write_psd(
    planes: list[NDArray[Any]], mode: int, *, run_lengths: bool, palette: bytes = b"", large: bool = False
) -> bytes:
    """Return a PSD or PSB without layers. planes: [H, W] each. mode: Photoshop's number."""
    bits = 1 if mode == 0 else 8 * planes[0].itemsize
    height, width = planes[0].shape
    rows = []
    for plane in planes:
        packed = np.packbits(plane, axis=1) if bits == 1 else plane.astype(plane.dtype.newbyteorder(">"))
        rows += [row.tobytes() for row in packed]
    out = struct.pack(">4sH6xHIIHH", b"8BPS", 2 if large else 1, len(planes), height, width, bits, mode)
    out += struct.pack(">I", len(palette)) + palette + struct.pack(">I", 0) + bytes(8 if large else 4)
    if not run_lengths:
        return out + struct.pack(">H", 0) + b"".join(rows)
    rows = [imagecodecs.packbits_encode(row) for row in rows]
    counts = struct.pack(f">{len(rows)}{'I' if large else 'H'}", *map(len, rows))
    return out + struct.pack(">H", 1) + counts + b"".join(rows)


def write_pam(values: NDArray[Any], tuple_type: str, max_value: int) -> bytes:
    height, width, depth = values.shape
    head = f"P7\nWIDTH {width}\nHEIGHT {height}\n# made by a test\nDEPTH {depth}\nMAXVAL {max_value}\n"
    return (
        f"{head}TUPLTYPE {tuple_type}\nENDHDR\n".encode()
        + values.astype(">u2" if max_value > 255 else "u1").tobytes()
    )


def write_pfm(values: NDArray[Any]) -> bytes:
    number = "PF" if values.ndim == 3 else "Pf"
    return (
        f"{number}\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode()
        + values[::-1].astype("<f4").tobytes()
    )


def write_16_bit_pnm(values: NDArray[Any]) -> bytes:
    number = 6 if values.ndim == 3 else 5
    return f"P{number} {values.shape[1]} {values.shape[0]} 65535\n".encode() + values.astype(">u2").tobytes()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
