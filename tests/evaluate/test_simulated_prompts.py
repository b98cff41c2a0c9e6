import numpy as np
import pytest

from segserve.evaluate.cli_choices import Correction
from segserve.evaluate.simulated_prompts import correct, random_pixel
from segserve.types import Bool


def rectangle(y0: int, x0: int, y1: int, x1: int, size: tuple[int, int] = (20, 30)) -> Bool:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_random_pixels_are_all_the_masks_pixels(rng: np.random.Generator) -> None:
    mask = rectangle(5, 10, 8, 12)
    assert {random_pixel(mask, rng) for _ in range(200)} == {(x, y) for y in range(5, 8) for x in (10, 11)}


def test_pairs_click_what_is_missed_and_what_is_too_much(rng: np.random.Generator) -> None:
    truth, found = rectangle(5, 5, 15, 15), rectangle(5, 8, 15, 20)
    for _ in range(50):
        (x, y, positive), (u, v, negative) = correct(truth, found, Correction.PAIRS, rng)
        assert (positive, negative) == (1, 0)
        assert (truth & ~found)[y, x]
        assert (found & ~truth)[v, u]


def test_where_nothing_is_wrong_pairs_click_the_object_and_what_is_beside_it(
    rng: np.random.Generator,
) -> None:
    truth = rectangle(5, 8, 12, 20)
    near = rectangle(2, 5, 15, 23) & ~truth
    for _ in range(50):
        (x, y, _), (u, v, _) = correct(truth, truth, Correction.PAIRS, rng)
        assert truth[y, x]
        assert near[v, u]


def test_an_object_that_fills_the_image_gets_no_negative_click(rng: np.random.Generator) -> None:
    full = np.ones((6, 6), bool)
    assert [label for *_, label in correct(full, full, Correction.PAIRS, rng)] == [1]
    assert [label for *_, label in correct(full, np.zeros_like(full), Correction.PAIRS, rng)] == [1]


def test_deepest_clicks_the_larger_error_at_its_deepest(rng: np.random.Generator) -> None:
    truth = rectangle(5, 5, 15, 15)
    assert correct(truth, rectangle(5, 10, 15, 17), Correction.DEEPEST, rng) == [(7, 7, 1)]
    assert correct(truth, rectangle(5, 7, 15, 22), Correction.DEEPEST, rng)[0][2] == 0
    x, y, label = correct(truth, truth, Correction.DEEPEST, rng)[0]
    assert truth[y, x] and label == 1  # noqa: PT018
