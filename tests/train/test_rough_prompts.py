"""Prompts of people in a hurry: rough boxes, many clicks, masks that are about right."""

import numpy as np
import pytest

pytest.importorskip("cv2")
torch = pytest.importorskip("torch")

from segserve.masks.geometry import bounding_box, iou
from segserve.train.promptable_dataset import WindowBatch
from segserve.train.rough_prompts import click_many, draw_prior_mask, rough_box
from segserve.train.training_prompts import PromptMix, TrainingPrompts
from segserve.types import Bool

EDGE = 64


def disc(x: int, y: int, radius: int) -> Bool:
    rows, columns = np.ogrid[:EDGE, :EDGE]
    inside: Bool = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    return inside


DISC, OTHER = disc(24, 30, 10), disc(45, 30, 9)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_rough_boxes_are_too_tight_or_too_loose(rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = bounding_box(DISC)
    boxes = [rough_box((x0, y0, x1, y1), EDGE, rng) for _ in range(200)]
    is_loose = [(box[:2] <= (x0, y0)).all() and (box[2:] >= (x1, y1)).all() for box in boxes]
    is_tight = [(box[:2] >= (x0, y0)).all() and (box[2:] <= (x1, y1)).all() for box in boxes]
    assert all(loose or tight for loose, tight in zip(is_loose, is_tight, strict=True))
    assert 60 < sum(is_loose) < 140
    assert all(box.min() >= 0 and box.max() <= EDGE and box[0] < box[2] and box[1] < box[3] for box in boxes)


@pytest.mark.parametrize("clustered", [True, False])
def test_many_clicks_say_what_is_there(rng: np.random.Generator, clustered: bool) -> None:
    labels = np.arange(60) >= 20
    clicks = click_many(DISC, labels, rng, clustered=clustered, wrong_share=0)
    assert [label for *_, label in clicks] == labels.tolist()
    assert all(DISC[y, x] == label for x, y, label in clicks)
    positives = np.array([(x, y) for x, y, label in clicks if label])
    assert bool(positives.std(0).max() < 4) is clustered


def test_some_of_many_clicks_are_wrong(rng: np.random.Generator) -> None:
    clicks = click_many(DISC, np.ones(500, np.bool_), rng, clustered=False, wrong_share=0.1)
    assert 20 < sum(not label for *_, label in clicks) < 80


def test_an_object_without_background_gets_positive_clicks_alone(rng: np.random.Generator) -> None:
    everything = np.ones((EDGE, EDGE), np.bool_)
    clicks = click_many(everything, np.zeros(5, np.bool_), rng, clustered=False, wrong_share=0)
    assert all(label for *_, label in clicks)


def test_priors_are_about_right_or_take_the_neighbour_along(rng: np.random.Generator) -> None:
    priors = [draw_prior_mask(DISC, OTHER, rng) for _ in range(200)]
    joined = [prior for prior in priors if (prior & OTHER).sum() > 0.9 * OTHER.sum()]
    assert 20 < len(joined) < 60
    shares = [iou(prior, DISC) for prior in priors]
    assert np.mean(shares) > 0.5
    assert np.mean(np.array(shares) < 1) > 0.9
    alone = [draw_prior_mask(DISC, None, rng) for _ in range(50)]
    assert max(int((prior & OTHER).sum()) for prior in alone) < 0.5 * OTHER.sum()


def batch(masks: list[Bool]) -> WindowBatch:
    count = len(masks)
    image = torch.zeros(2, 3, EDGE, EDGE)
    offset = np.array([[0, 0], [32, 16]])  # (y, x)
    return WindowBatch(image, torch.zeros(2, 3, 32, 32), masks, torch.arange(count) // 2, offset)


def test_prompts_are_in_pixels_of_the_whole_input(rng: np.random.Generator) -> None:
    prompts = TrainingPrompts(batch([DISC, OTHER, DISC]), PromptMix(box=1, click_with_box=1), rng)
    assert prompts.boxes is not None
    assert prompts.points.shape == (3, 1, 2)
    shift = prompts.boxes[2] - prompts.boxes[0]
    assert np.abs(shift - [16, 32, 16, 32]).max() < 20, "jittered apart from the windows' offset"
    x, y = prompts.points[2, 0] - (16, 32)
    assert DISC[int(y), int(x)]


def test_the_mix_adds_many_clicks_and_priors(rng: np.random.Generator) -> None:
    mix = PromptMix(box=0, many_clicks=1, max_clicks=8, prior=1)
    counts = set()
    for _ in range(20):
        prompts = TrainingPrompts(batch([DISC, OTHER, DISC]), mix, rng)
        counts.add(prompts.points.shape[1])
        assert prompts.labels.shape == prompts.points.shape[:2]
        assert prompts.prior is not None
        assert prompts.prior.shape == (3, EDGE, EDGE)
        assert set(np.unique(prompts.prior.round())) <= {-7.0, 7.0}
    assert 3 <= min(counts) <= max(counts) <= 9


def test_a_prior_is_joined_with_an_object_of_the_same_window(rng: np.random.Generator) -> None:
    far = disc(8, 8, 5)
    prompts = TrainingPrompts(batch([DISC, OTHER, far]), PromptMix(prior=1), rng)
    assert prompts._nearest_other(0) is OTHER
    assert prompts._nearest_other(2) is None, "alone in the second window"
