"""An image read in bands has the pixels that it has when it is read at once."""

import io
from contextlib import suppress
from itertools import pairwise
from typing import Any

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.images.image_source import ImageSource
from segserve.images.normalise import stretch, to_uint8
from segserve.images.read_image import open_image
from segserve.images.streaming_percentiles import find_value_ranges
from segserve.types import Normalise

H, W = 700, 91  # several bands, the last one lower
MAX = 1_000_000
RNG = np.random.default_rng(0)
RGB = np.asarray(Image.fromarray(RNG.integers(0, 256, (70, 10, 3), np.uint8)).resize((W, H)))
GREY = RGB[:, :, 0]
DEEP = RNG.integers(0, 65536, (H, W, 4)).astype(np.uint16)


def pil(image: Image.Image, form: str, **save: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **save)
    return file.getvalue()


def tiff(values: NDArray[Any], **write: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **write)
    return file.getvalue()


def deep_png(channels: int) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(DEEP[:, :, :channels].squeeze())))


def picture(mode: str) -> Image.Image:
    return Image.fromarray(RGB).convert(mode)


def palette() -> Image.Image:
    return Image.fromarray(RGB).quantize(13)


TILES = {"tile": (64, 48), "compression": "zlib", "predictor": True}
READ_IN_BANDS = {
    "png grey": pil(picture("L"), "PNG"),
    "png 1-bit": pil(picture("1"), "PNG"),
    "png 4-bit palette": pil(palette(), "PNG", bits=4),
    "png palette with transparency": pil(palette(), "PNG", transparency=3),
    "png grey with transparency": pil(picture("L"), "PNG", transparency=7),
    "png grey and alpha": pil(picture("LA"), "PNG"),
    "png colour": pil(picture("RGB"), "PNG"),
    "png colour and alpha": pil(picture("RGBA"), "PNG"),
    "png 16-bit grey": deep_png(1),
    "png 16-bit grey and alpha": deep_png(2),
    "png 16-bit colour": deep_png(3),
    "png 16-bit colour and alpha": deep_png(4),
    "jpeg grey": pil(picture("L"), "JPEG"),
    "jpeg colour": pil(picture("RGB"), "JPEG", quality=70),
    "jpeg 4:4:4": pil(picture("RGB"), "JPEG", subsampling=0),
    "jpeg cmyk": pil(picture("CMYK"), "JPEG"),
    "tiff one strip": tiff(DEEP[:, :, 0]),
    "tiff one strip, big-endian": tiff(DEEP[:, :, :3], byteorder=">", photometric="rgb"),
    "tiff strips": tiff(RGB, rowsperstrip=7),
    "tiff packed strips": tiff(RGB, rowsperstrip=7, compression="zlib"),
    "tiff tiles": tiff(RGB, **TILES),
    "tiff raw tiles": tiff(GREY, tile=(64, 48)),
    "tiff planar": tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
    "tiff planar tiles": tiff(np.moveaxis(DEEP, -1, 0), planarconfig="separate", photometric="rgb", **TILES),
    "tiff floats": tiff(DEEP[:, :, :2].astype(np.float32) - 30_000, planarconfig="contig", **TILES),
    "tiff white is zero": tiff(GREY, photometric="miniswhite", **TILES),
    "tiff 1-bit": tiff(GREY > 99, rowsperstrip=5),
    "tiff palette": tiff(GREY, photometric="palette", colormap=DEEP[:256, :3, 0].T, **TILES),
    "tiff cmyk": tiff(np.dstack([RGB, GREY]), photometric="separated", **TILES),
    "tiff jpeg": tiff(RGB, tile=(64, 48), compression="jpeg"),
    "tiff of imagej, channels apart": tiff(np.moveaxis(DEEP, -1, 0), imagej=True, metadata={"axes": "CYX"}),
    "tiff of ome, channels apart": tiff(
        np.moveaxis(DEEP, -1, 0), ome=True, metadata={"axes": "CYX"}, **TILES
    ),
    "tiff turned": tiff(RGB, extratags=[(274, "H", 1, 6, True)]),
}
READ_AT_ONCE = {
    "png interlaced": pyvips.Image.new_from_array(GREY).pngsave_buffer(interlace=True),
    "jpeg progressive": pil(picture("RGB"), "JPEG", progressive=True),
    "webp": pil(picture("RGB"), "WEBP", lossless=True),
    "bmp": pil(picture("RGB"), "BMP"),
}


def opened(data: bytes) -> ImageSource:
    return open_image(io.BytesIO(data), 0, MAX, MAX)


@pytest.mark.parametrize("name", READ_IN_BANDS)
def test_bands_are_the_image(name: str) -> None:
    source = opened(READ_IN_BANDS[name])
    assert source.bands is not None
    whole = source.read()
    for _ in range(2):  # they can be read again
        bands = list(source.bands())
        assert len(bands) > 1
        np.testing.assert_array_equal(np.concatenate([band.values for band in bands]), whole.values)
        assert {(band.has_alpha, band.orientation) for band in bands} == {
            (whole.has_alpha, whole.orientation)
        }
        assert (source.size.height, source.size.width) == whole.values.shape[:2]


@pytest.mark.parametrize("name", READ_AT_ONCE)
def test_what_is_not_stored_from_top_to_bottom_is_read_at_once(name: str) -> None:
    assert opened(READ_AT_ONCE[name]).bands is None
    with pytest.raises(TooLarge):  # by the limit for that
        open_image(io.BytesIO(READ_AT_ONCE[name]), 0, H * W - 1, MAX)


def test_a_tall_packed_strip_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segserve.images.tiff.bands._MAX_BAND_BYTES", H * W * 3 - 1)
    assert opened(tiff(RGB, rowsperstrip=H, compression="zlib")).bands is None
    assert opened(tiff(RGB, rowsperstrip=8, compression="zlib")).bands is not None
    assert opened(tiff(RGB, rowsperstrip=H)).bands is not None, "not packed: any row can be read"


def test_the_limits_of_bands_are_those_of_the_image() -> None:
    values = RNG.normal(100, 30, (H, W, 2))
    for kind in ("u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"):
        image = (values if kind[0] in "if" else values.clip(0)).astype(kind)
        if kind[0] == "f":
            image[3, 4, 0], image[5, 5, 1] = np.nan, -np.inf
        for how in Normalise:
            if kind != "u1" or how is not Normalise.NONE:
                limits = find_value_ranges(lambda image=image: np.array_split(image, 5), how)
                difference = stretch(image, limits).astype(int) - to_uint8(image, how)
                assert np.abs(difference).max() <= (kind[0] == "f"), (kind, how)


def test_bands_of_nothing_finite_are_refused_like_the_image() -> None:
    nothing = np.full((H, W, 1), np.nan, np.float32)
    for how in Normalise:
        with pytest.raises(BadInput, match="NaN"):
            find_value_ranges(lambda: np.array_split(nothing, 3), how)


@pytest.mark.parametrize("name", ["png colour", "jpeg colour", "tiff tiles", "tiff one strip", "tiff jpeg"])
def test_what_is_cut_short_is_refused(name: str) -> None:
    data = READ_IN_BANDS[name]
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(BadInput):
            read_all(data[: int(share * len(data))])


def read_all(data: bytes) -> None:
    source = opened(data)
    for one, other in pairwise(source.bands() if source.bands else []):
        assert one.values.shape[1:] == other.values.shape[1:]


def test_damage_never_ends_in_anything_but_pixels_or_a_refusal() -> None:
    for data in READ_IN_BANDS.values():
        for _ in range(3):
            broken = bytearray(data)
            at = int(RNG.integers(40, len(data) - 20))
            broken[at : at + 20] = RNG.bytes(20)
            with suppress(BadInput):
                read_all(bytes(broken))
