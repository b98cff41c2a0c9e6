"""What of a mask becomes the prompt on the next slice: box, points, mask."""

import numpy as np
import pytest

from segserve.projection.mask_to_prompt import Projection, mask_to_prompt
from segserve.types import Box


def draw_square() -> np.ndarray:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 15:35] = True
    return mask


def test_each_projection_uses_the_parts_in_its_name() -> None:
    used = {
        projection: (prompt.box is not None, prompt.mask is not None, len(prompt.points) > 0)
        for projection in Projection
        for prompt in [mask_to_prompt(draw_square(), projection)]
    }
    assert used == {
        Projection.MASK: (True, True, False),
        Projection.BOX: (True, False, False),
        Projection.POINTS: (False, False, True),
        Projection.POINTS_AND_MASK: (False, True, True),
        Projection.SINGLE_POINT: (False, False, True),
    }


def test_the_single_point_is_the_deepest() -> None:
    [[x, y]] = mask_to_prompt(draw_square(), Projection.SINGLE_POINT).points
    assert 23 <= x <= 26
    assert 18 <= y <= 21


def test_points_lie_on_their_side_of_the_outline() -> None:
    mask = np.zeros((80, 80), np.bool_)
    mask[20:60, 20:30] = mask[50:60, 20:60] = True  # the box of an L contains background
    prompt = mask_to_prompt(mask, Projection.POINTS)
    assert {0, 1} == set(prompt.labels.tolist())
    for (x, y), label in zip(prompt.points.astype(int), prompt.labels, strict=True):
        assert mask[y, x] == label


@pytest.mark.parametrize(
    ("extension", "expected"),
    [(0, Box(15, 10, 35, 30)), (0.5, Box(5, 0, 45, 40)), (3, Box(12, 7, 38, 33)), (100, Box(0, 0, 60, 40))],
)
def test_the_box_grows_by_a_fraction_or_by_pixels_and_stays_on_the_image(
    extension: float, expected: Box
) -> None:
    assert mask_to_prompt(draw_square(), Projection.BOX, extension).box == expected
