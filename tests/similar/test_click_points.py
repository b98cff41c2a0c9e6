"""The points of a response that are clicked."""

import numpy as np
import pytest

from segserve.masks.upscale import LogitsGeometry
from segserve.similar.click_points import find_points, measure_pixel, smooth_response
from segserve.types import Size


def test_local_maxima_come_highest_first_and_not_where_it_is_taken() -> None:
    response = np.zeros((40, 60), np.float32)
    for value, (x, y) in ((0.9, (10, 12)), (1.0, (30, 5)), (0.7, (50, 30)), (0.4, (5, 35)), (0.8, (12, 13))):
        response[y, x] = value
    taken = np.zeros((40, 60), np.bool_)
    taken[3:8, 28:33] = True
    assert find_points(response, taken, 16, 0.5, 10).tolist() == [[10, 12], [50, 30]]
    assert find_points(response, ~taken, 16, 0.5, 10).tolist() == [[30, 5]]
    assert find_points(response, np.zeros_like(taken), 16, 0.5, 2).tolist() == [[30, 5], [10, 12]]
    assert not len(find_points(response, np.ones_like(taken), 16, 0.5, 2))


def test_the_response_is_highest_in_the_middle_of_an_object() -> None:
    cells = np.zeros((16, 12), np.float32)
    cells[5:10, 3:8] = 1
    response = smooth_response(cells, 4, (64, 45), 20)
    assert response.shape == (64, 45)
    y, x = np.unravel_index(int(response.argmax()), response.shape)
    assert abs(y - 29.5) <= 1
    assert abs(x - 21.5) <= 1


def test_padding_is_no_part_of_the_image() -> None:
    geometry = LogitsGeometry.padded(Size(300, 800), 1024, 256)
    assert geometry.valid_low == (96, 256)
    assert measure_pixel(geometry) == pytest.approx(800 / 256, abs=0.01)
    stretched = LogitsGeometry.stretched(Size(300, 800), 256)
    assert stretched.valid_low == (256, 256)
    assert measure_pixel(stretched) == pytest.approx([800 / 256, 300 / 256])
