"""Stains are separated as by scikit-image, whose numbers are here; images are inverted."""

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.images.stains import ABSORBANCE, MAX_AMOUNT
from segserve.types import Stain
from tests.images.decoding import GREY, RGB, expect_refusal, nearly_equal, read
from tests.images.sample_images import write_tiff


def paint(amounts: tuple[float, float, float]) -> np.ndarray:
    """Return a pixel [1, 1, 3] stained by these amounts of haematoxylin, eosin and DAB."""
    return np.rint(255 * np.exp(-np.array(amounts) @ ABSORBANCE)).astype(np.uint8).reshape(1, 1, 3)


@pytest.mark.parametrize(("stain", "column"), [(Stain.HAEMATOXYLIN, 0), (Stain.EOSIN, 1), (Stain.DAB, 2)])
def test_each_stain_is_told_apart(stain: Stain, column: int) -> None:
    for amounts in ((1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, 1.0), (0.4, 0.7, 0.0)):
        pixels = read(write_tiff(paint(amounts), photometric="rgb"), stain=stain)
        expected = 255 * (1 - amounts[column] / MAX_AMOUNT)
        assert np.abs(pixels.astype(float) - expected).max() < 4, amounts


def test_values_are_those_of_scikit_image() -> None:
    """Of skimage 0.26: rgb2hed of three pixels, which count in logarithms of 1e-6."""
    pixels = np.array([[[120, 60, 130], [200, 150, 190], [0, 0, 0]]], np.uint8)
    hed = np.array(
        [
            [0.06620706, 0.04043529, 0.03220283],
            [0.0176737, 0.01563109, 0.01852945],
            [1.21016731, 0.0, 0.88195046],
        ]
    )
    for column, stain in enumerate(Stain):
        grey = 255 * (1 - np.clip(-np.log(1e-6) * hed[:, column] / MAX_AMOUNT, 0, 1))
        assert nearly_equal(read(write_tiff(pixels, photometric="rgb"), stain=stain)[0, :, 0], grey.round())


def test_white_holds_no_stain() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    for stain in Stain:
        assert (read(write_tiff(white, photometric="rgb"), stain=stain) == 255).all()


def test_grey_has_no_stains() -> None:
    expect_refusal(write_tiff(GREY), BadInput, field="stain", stain=Stain.EOSIN)


def test_invert_comes_last() -> None:
    data = write_tiff(RGB, photometric="rgb")
    assert np.array_equal(read(data, invert=True), 255 - RGB)
    stained = read(data, stain=Stain.DAB)
    assert np.array_equal(read(data, stain=Stain.DAB, invert=True), 255 - stained)
