"""TIFF codecs that only a sandboxed process runs give the pixels that were written, or that libtiff reads."""

import io
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput, UnsupportedFormat
from segserve.images.image_source import NeedsSandbox
from segserve.images.open_any_image import open_any_image
from segserve.images.read_image import open_image
from tests.images.decoding import patched_tiff
from tests.images.sample_images import write_tiff
from tests.images.sandboxed.picture_files import DEEP, GREY, RGB, H, W, save

MAX_PIXELS = 1_000_000
BITS = GREY > 90


def values_of(data: bytes) -> NDArray[Any]:
    values = open_any_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS).read().values
    return values[:, :, 0] if values.shape[2] == 1 else values


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_ccitt(compression: str) -> None:
    data = save(Image.fromarray(BITS), "TIFF", compression=compression)
    with pytest.raises(NeedsSandbox, match="CCITT"):
        open_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
    assert np.array_equal(values_of(data), 255 * BITS)


@pytest.mark.parametrize(
    ("compression", "values", "options"),
    [
        ("lzma", DEEP, {"predictor": True}),
        ("lzma", RGB, {}),
        ("webp", RGB, {"compressionargs": {"level": 100, "lossless": True}}),
        ("jpeg2000", RGB, {"compressionargs": {"level": 0}}),
        ("jpeg2000", DEEP, {"compressionargs": {"level": 0}}),
        ("jpegxl", DEEP, {"compressionargs": {"lossless": True}}),
        ("lerc", DEEP, {}),
        ("lerc", DEEP.astype(np.float32), {}),
        ("png", RGB, {}),
    ],
)
@pytest.mark.parametrize("tiled", [False, True])
def test_without_loss(compression: str, values: NDArray[Any], options: dict[str, Any], tiled: bool) -> None:
    layout = {"tile": (16, 16)} if tiled else {"rowsperstrip": 7}
    data = write_tiff(values, compression=compression, **layout, **options)  # type: ignore[arg-type]
    with pytest.raises(NeedsSandbox):
        open_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
    assert np.array_equal(values_of(data), values)
    source = open_any_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
    assert source.bands is not None
    bands = np.concatenate([band.values for band in source.bands()])
    assert np.array_equal(bands.squeeze(), values)


def test_jpeg_2000_of_slide_scanners_in_ycbcr() -> None:
    """Aperio's compression 33003: the codestream holds YCbCr and does not say so."""
    ycbcr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    tiles = [np.pad(ycbcr[y : y + 16, x : x + 16], ((0, max(0, y + 16 - H)), (0, max(0, x + 16 - W)), (0, 0)))
             for y in range(0, H, 16) for x in range(0, W, 16)]  # fmt: skip
    encoded = [bytes(imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k")) for tile in tiles]
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        layout = {"shape": (H, W, 3), "tile": (16, 16), "photometric": "rgb"}
        writer.write(iter(encoded), dtype=np.uint8, compression=33003, **layout)
    assert np.abs(values_of(out.getvalue()).astype(int) - RGB).max() <= 4


def write_old_style_jpeg(values: NDArray[Any]) -> bytes:
    """Return a TIFF whose only strip is a JPEG stream, as tag JPEGInterchangeFormat of the old compression has it."""
    stream = save(values, "JPEG", quality=90, subsampling=0)
    tags = [
        (256, 4, 1, W), (257, 4, 1, H), (258, 4, 1, 8), (259, 4, 1, 6), (262, 4, 1, 6), (273, 4, 1, 0), (277, 4, 1, 3),
        (278, 4, 1, H), (279, 4, 1, len(stream)), (513, 4, 1, 0), (514, 4, 1, len(stream)), (530, 3, 2, 1 | 1 << 16),
    ]  # fmt: skip
    begin = 8 + 2 + 12 * len(tags) + 4
    out = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, kind, count, value in tags:
        out += struct.pack("<HHII", tag, kind, count, begin if tag in (273, 513) else value)
    return out + bytes(4) + stream


def test_old_style_jpeg() -> None:
    data = write_old_style_jpeg(RGB)
    with pytest.raises(NeedsSandbox, match="old-style JPEG"):
        open_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)
    expected = np.asarray(Image.open(io.BytesIO(save(RGB, "JPEG", quality=90, subsampling=0))))
    assert np.abs(values_of(data).astype(int) - expected).max() <= 2


def test_what_is_not_read_is_named() -> None:
    data = bytearray(write_tiff(RGB, photometric="rgb", compression="lzma", byteorder="<"))
    for number, name in ((34934, "JPEGXR"), (32809, "THUNDERSCAN"), (65432, "number 65432")):
        patched = bytes(data).replace((34925).to_bytes(2, "little"), number.to_bytes(2, "little"), 1)
        with pytest.raises(UnsupportedFormat, match=rf"{name}.* is not read"):
            open_any_image(io.BytesIO(patched), 0, MAX_PIXELS, MAX_PIXELS)


@pytest.mark.parametrize("compression", ["lzma", "webp", "jpeg2000", "jpegxl", "lerc", "png"])
def test_a_tile_that_is_larger_than_the_directory_says_makes_no_larger_image(compression: str) -> None:
    options: dict[str, Any] = {"compression": compression, "rowsperstrip": H}
    data = patched_tiff({256: W // 2}, **options)
    with suppress(BadInput):
        assert values_of(data).shape == (H, W // 2, 3)


def lossless_jpeg_tiff() -> bytes:
    return write_tiff(DEEP, compression="jpeg", compressionargs={"lossless": True}, tile=(16, 16))


def test_lossless_jpeg() -> None:
    """libjpeg-turbo decodes it, which looks for the end of its input: in this process."""
    source = open_image(io.BytesIO(lossless_jpeg_tiff()), 0, MAX_PIXELS, MAX_PIXELS)
    assert np.array_equal(source.read().values[:, :, 0], DEEP)


def test_a_jpeg_that_libjpeg_refuses_reaches_no_other_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """imagecodecs tries liblj92 where a lossless frame header is anywhere in the stream."""

    def refuse(*args: object, **options: object) -> object:
        raise ValueError("Unsupported JPEG process: SOF type 0xc7")

    source = open_image(io.BytesIO(lossless_jpeg_tiff()), 0, MAX_PIXELS, MAX_PIXELS)
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", refuse)
    with pytest.raises(BadInput):
        source.read()


def test_liblj92_stays_off_when_its_codec_is_used() -> None:
    program = (
        "import imagecodecs, segserve.images.tiff.reader; imagecodecs.LJPEG;"
        " print(imagecodecs.ljpeg_decode.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refuse_to_decode"
