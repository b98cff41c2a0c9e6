"""The losses of U-Nets are what their papers write, computed here in float64 without torch."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.train.unet_choices import LossName
from segserve.train.unet_losses import (
    UnetLoss,
    bce_dice_loss,
    focal_loss,
    generalised_dice_loss,
    median_frequency_weights,
)

WEIGHTS = (0.25, 3.0, 1.5)


def draw_batch(classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Return logits and one-hot truth [2, K, 6, 5] as float64; some pixels have no class."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, classes + 1, (2, 6, 5))
    truth = (values[:, None] == np.arange(1, classes + 1)[None, :, None, None]).astype(np.float64)
    return rng.normal(0, 3, truth.shape), truth


def compute(loss: Any, *arrays: Any, **more: Any) -> float:
    return float(loss(*(torch.from_numpy(each).float() for each in arrays), **more))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def weigh(loss: Any, truth: Any, weights: tuple[float, ...] | None) -> float:
    """Average a loss, each pixel weighed by its class, pixel after pixel."""
    total = parts = 0.0
    for image, y, x in np.ndindex(loss.shape[0], *loss.shape[2:]):
        value = int((truth[image, :, y, x] * np.arange(1, truth.shape[1] + 1)).sum())
        weight = 1.0 if weights is None else weights[value]
        total += weight * loss[image, :, y, x].mean()
        parts += weight
    return total / parts


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_plus_dice(weights: tuple[float, ...] | None) -> None:
    logits, truth = draw_batch(2)
    p = sigmoid(logits)
    bce = -(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    overlap = 2 * (p * truth).sum((0, 2, 3)) + 1
    dice = overlap / (p.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    expected = weigh(bce, truth, weights) + (1 - dice).mean()
    assert compute(bce_dice_loss, logits, truth, weights=weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_loss(weights: tuple[float, ...] | None) -> None:
    """Equation 5 of the paper, with its gamma of 2 and alpha of 0.25; class weights stand in for alpha."""
    logits, truth = draw_batch(2)
    p = sigmoid(logits)
    p_true = np.where(truth == 1, p, 1 - p)
    alpha = np.where(truth == 1, 0.25, 0.75) if weights is None else 1.0
    expected = weigh(-alpha * (1 - p_true) ** 2 * np.log(p_true), truth, weights)
    assert compute(focal_loss, logits, truth, weights=weights) == pytest.approx(expected, rel=1e-5)


def generalised_dice(p: Any, truth: Any) -> float:
    """Equation of section 2.1 of the paper. p, truth: [L, N], a row for each label."""
    pixels = truth.sum(1)
    with np.errstate(divide="ignore"):
        weights = 1 / pixels**2
    weights[pixels == 0] = weights[pixels > 0].max()
    return float(1 - 2 * (weights * (truth * p).sum(1)).sum() / (weights * (truth + p).sum(1)).sum())


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("absent", [False, True])
def test_generalised_dice(classes: int, absent: bool) -> None:
    logits, truth = draw_batch(classes)
    if absent:
        truth[:, -1] = 0
    p = sigmoid(logits)
    labels = [np.concatenate([(1 - p).prod(1, keepdims=True), p], 1)]
    labels.append(np.concatenate([1 - truth.sum(1, keepdims=True), truth], 1))
    rows = [each.transpose(1, 0, 2, 3).reshape(classes + 1, -1) for each in labels]
    assert compute(generalised_dice_loss, logits, truth) == pytest.approx(generalised_dice(*rows), rel=1e-5)


@pytest.mark.parametrize("name", LossName)
def test_the_truth_has_hardly_any_loss_and_its_opposite_much(name: LossName) -> None:
    _, truth = draw_batch(2)
    right, wrong = (compute(UnetLoss(name), sign * 20 * (2 * truth - 1), truth) for sign in (1, -1))
    assert right < 1e-3 < 0.9 < wrong


def test_an_image_of_background_alone_has_a_finite_generalised_dice() -> None:
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss = generalised_dice_loss(logits, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [bce_dice_loss, focal_loss])
def test_a_batch_of_pixels_that_do_not_count_has_a_finite_loss(loss: Any) -> None:
    assert np.isfinite(compute(loss, np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4)), weights=(0.0, 1.0)))


def test_rare_classes_weigh_more_by_median_frequency() -> None:
    """Of 200 pixels 150 are background; class 1 has 40 of the 100 pixels where it is, class 2 has 10 of its 100."""
    first, second = np.zeros((10, 10), np.int32), np.zeros((10, 10), np.int32)
    first[:4], second[:1] = 1, 2
    frequencies = [150 / 200, 40 / 100, 10 / 100]
    expected = [0.4 / each for each in frequencies]
    assert median_frequency_weights([first, second], 2) == pytest.approx(expected)
    assert median_frequency_weights([first * 7, second], 1) == pytest.approx([0.5 / 0.75, 0.5 / 0.25])
    assert median_frequency_weights([first], 2)[2] == 0, "a class that is nowhere"
