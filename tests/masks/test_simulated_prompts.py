"""Simulated clicks lie on the errors that they correct, and a seed always draws the same prompts."""

import numpy as np
import pytest

from segserve.masks.simulated_prompts import (
    click_both_errors,
    click_deepest_error,
    click_random_error,
    jitter_box,
    random_pixel,
)
from segserve.types import Bool


def rectangle(y0: int, x0: int, y1: int, x1: int, size: tuple[int, int] = (20, 30)) -> Bool:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_pixel_of_the_mask_can_be_drawn_and_no_other(rng: np.random.Generator) -> None:
    mask = rectangle(5, 10, 8, 12)
    assert {random_pixel(mask, rng) for _ in range(200)} == {(x, y) for y in range(5, 8) for x in (10, 11)}


def test_both_errors_get_a_click(rng: np.random.Generator) -> None:
    truth, prediction = rectangle(5, 5, 15, 15), rectangle(5, 8, 15, 20)
    for _ in range(50):
        (x, y, positive), (u, v, negative) = click_both_errors(truth, prediction, rng)
        assert (positive, negative) == (1, 0)
        assert (truth & ~prediction)[y, x]
        assert (prediction & ~truth)[v, u]


def test_without_errors_the_object_and_the_background_beside_it_get_a_click(rng: np.random.Generator) -> None:
    truth = rectangle(5, 8, 12, 20)
    near = rectangle(2, 5, 15, 23) & ~truth
    for _ in range(50):
        (x, y, _), (u, v, _) = click_both_errors(truth, truth, rng)
        assert truth[y, x]
        assert near[v, u]


def test_an_object_that_fills_the_image_gets_no_negative_click(rng: np.random.Generator) -> None:
    full = np.ones((6, 6), bool)
    assert [label for *_, label in click_both_errors(full, full, rng)] == [1]
    assert [label for *_, label in click_both_errors(full, np.zeros_like(full), rng)] == [1]


def test_the_larger_error_gets_a_click_at_its_deepest_pixel() -> None:
    truth = rectangle(5, 5, 15, 15)
    assert click_deepest_error(truth, rectangle(5, 10, 15, 17)) == (7, 7, 1)
    assert click_deepest_error(truth, rectangle(5, 7, 15, 22))[2] == 0
    x, y, label = click_deepest_error(truth, truth)
    assert truth[y, x]
    assert label == 1


def test_a_random_error_is_missed_or_excess_and_without_errors_the_object_is_clicked(
    rng: np.random.Generator,
) -> None:
    truth, prediction = rectangle(5, 5, 15, 15), rectangle(5, 8, 15, 20)
    clicks = [click_random_error(truth, prediction, rng) for _ in range(50)]
    assert {label for *_, label in clicks} == {0, 1}
    assert all((truth ^ prediction)[y, x] and truth[y, x] == label for x, y, label in clicks)
    x, y, label = click_random_error(truth, truth, rng)
    assert truth[y, x]
    assert label == 1


def test_a_jittered_box_stays_near_and_in_the_array(rng: np.random.Generator) -> None:
    boxes = np.stack([jitter_box((100, 0, 140, 250), 256, rng) for _ in range(200)])
    assert boxes.std(axis=0).min() > 0
    assert boxes.min() == 0
    assert boxes.max() == 256
    assert np.abs(boxes[:, 1]).max() <= 20  # a tenth of its height is 25


def test_the_draws_of_a_seed_never_change() -> None:
    """Otherwise neither training runs nor scores could be compared with older ones."""
    rng = np.random.default_rng(3)
    truth = rng.random((23, 30)) < 0.3
    prediction, rng = np.roll(truth, 3, axis=1), np.random.default_rng([3, 1])
    assert click_both_errors(truth, prediction, rng) == [(14, 22, 1), (4, 6, 0)]
    assert click_random_error(truth, prediction, rng) == (26, 13, 0)
    assert jitter_box((0, 0, 30, 23), 30, rng) == pytest.approx([0, 1.5812466, 30, 22.51565])
