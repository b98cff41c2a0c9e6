"""An image read in bands has the pixels that it has when it is read at once."""

import io
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.images.image_source import ImageSource
from segserve.images.normalise import JOINT_MODES, stretch, to_uint8
from segserve.images.read_image import open_image
from segserve.images.streaming_percentiles import find_value_ranges
from segserve.types import Normalise
from tests.images.sample_images import READ_AT_ONCE, READ_IN_BANDS, RGB, RNG, H, W, save_image, write_tiff

MAX_PIXELS = 1_000_000


def open_bytes(data: bytes) -> ImageSource:
    return open_image(io.BytesIO(data), 0, MAX_PIXELS, MAX_PIXELS)


@pytest.mark.parametrize("name", READ_IN_BANDS)
def test_bands_are_the_image(name: str) -> None:
    source = open_bytes(READ_IN_BANDS[name])
    assert source.bands is not None
    whole = source.read()
    for _ in range(2):  # every call reads them from the start
        bands = list(source.bands())
        assert len(bands) > 1
        np.testing.assert_array_equal(np.concatenate([band.values for band in bands]), whole.values)
        assert {(band.has_alpha, band.orientation) for band in bands} == {
            (whole.has_alpha, whole.orientation)
        }
        assert (source.size.height, source.size.width) == whole.values.shape[:2]


def test_bands_of_an_image_in_memory_read_memory_that_is_held() -> None:
    """libvips reads the file's bytes in place until the last band."""
    black = save_image(Image.new("RGB", (600, 600)), "PNG")
    for _ in range(5):
        bands = open_bytes(black).bands
        assert bands is not None
        for band in bands():
            other = [bytes([255]) * len(black) for _ in range(9)]  # takes what was let go of
            assert not band.values.any()
            assert len(other) == 9


@pytest.mark.parametrize("name", READ_AT_ONCE)
def test_an_image_not_stored_from_top_to_bottom_is_read_at_once(name: str) -> None:
    assert open_bytes(READ_AT_ONCE[name]).bands is None
    with pytest.raises(TooLarge):  # by the limit for images read at once
        open_image(io.BytesIO(READ_AT_ONCE[name]), 0, H * W - 1, MAX_PIXELS)


def test_a_tall_compressed_strip_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segserve.images.tiff.bands._MAX_BAND_BYTES", H * W * 3 - 1)
    assert open_bytes(write_tiff(RGB, rowsperstrip=H, compression="zlib")).bands is None
    assert open_bytes(write_tiff(RGB, rowsperstrip=8, compression="zlib")).bands is not None
    assert open_bytes(write_tiff(RGB, rowsperstrip=H)).bands is not None, (
        "not compressed: any row can be read"
    )


def test_the_value_ranges_of_bands_are_those_of_the_image() -> None:
    values = RNG.normal(100, 30, (H, W, 2))
    for dtype in ("u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"):
        image = (values if dtype[0] in "if" else values.clip(0)).astype(dtype)
        if dtype[0] == "f":
            image[3, 4, 0], image[5, 5, 1] = np.nan, -np.inf
        for mode in Normalise:
            if dtype != "u1" or mode not in JOINT_MODES:
                ranges = find_value_ranges(lambda image=image: np.array_split(image, 5), mode)
                difference = stretch(image, ranges).astype(int) - to_uint8(image, mode)
                assert np.abs(difference).max() <= (dtype[0] == "f"), (dtype, mode)


def test_bands_without_finite_values_are_refused_like_the_image() -> None:
    nothing = np.full((H, W, 1), np.nan, np.float32)
    for mode in Normalise:
        with pytest.raises(BadInput, match="NaN"):
            find_value_ranges(lambda: np.array_split(nothing, 3), mode)


@pytest.mark.parametrize("name", ["png colour", "jpeg colour", "tiff tiles", "tiff one strip", "tiff jpeg"])
def test_a_truncated_image_is_refused(name: str) -> None:
    data = READ_IN_BANDS[name]
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(BadInput):
            read_all(data[: int(share * len(data))])


def read_all(data: bytes) -> None:
    source = open_bytes(data)
    for band, following in pairwise(source.bands() if source.bands else []):
        assert band.values.shape[1:] == following.values.shape[1:]


def test_a_damaged_image_gives_pixels_or_a_refusal() -> None:
    for data in READ_IN_BANDS.values():
        for _ in range(3):
            broken = bytearray(data)
            at = int(RNG.integers(40, len(data) - 20))
            broken[at : at + 20] = RNG.bytes(20)
            with suppress(BadInput):
                read_all(bytes(broken))
