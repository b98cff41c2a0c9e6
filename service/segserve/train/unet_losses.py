"""The loss functions of U-Nets. Each takes logits and truth [B, K, H, W]; a class is a sigmoid, 0 in all is background.

    bce-dice          binary cross-entropy plus Dice (Milletari et al., 2016, arXiv 1606.04797, without the squares)
    focal             focal loss (Lin et al., 2017, arXiv 1708.02002), as torchvision computes it
    generalised-dice  generalised Dice (Sudre et al., 2017, arXiv 1707.03237)

Class weights multiply the loss of each pixel by the weight of its true class. "auto" are those of median frequency
balancing (Eigen and Fergus, 2015, arXiv 1411.4734).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from segserve.train.unet_choices import LossName

# The paper's best values. With class weights there is no alpha: both say how much a class counts.
FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
NO_ALPHA = -1.0  # as torchvision names it


@dataclass(frozen=True)
class UnetLoss:
    """`UnetLoss` computes one of the losses.

    weights: of the background, then of each class; None counts every pixel alike.
    """

    name: LossName = LossName.BCE_DICE
    weights: tuple[float, ...] | None = None

    def __call__(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of a batch."""
        if self.name is LossName.GENERALISED_DICE:
            return generalised_dice_loss(logits, truth)
        loss = focal_loss if self.name is LossName.FOCAL else bce_dice_loss
        return loss(logits, truth, self.weights)


def bce_dice_loss(logits: Tensor, truth: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return the cross-entropy plus one minus the Dice of each class over the batch. Weights are for the former."""
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((0, 2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return weighted_mean(bce, truth, weights) + dice.mean()


def focal_loss(logits: Tensor, truth: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return the mean of -alpha (1 - p)^2 log p, where p is the probability of what is true."""
    alpha = FOCAL_ALPHA if weights is None else NO_ALPHA
    loss = sigmoid_focal_loss(logits, truth, alpha=alpha, gamma=FOCAL_GAMMA, reduction="none")
    return weighted_mean(loss, truth, weights)


def generalised_dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return one minus the Dice over all classes, each weighed by 1 / (its true pixels)^2.

    The background is a class: where no other one is, with the probability that none is. A class without a pixel in the
    batch gets the largest weight of the others: the paper's would be infinite.
    """
    probability = logits.sigmoid()
    probability = torch.cat([(1 - probability).prod(1, keepdim=True), probability], dim=1)
    truth = torch.cat([1 - truth.amax(1, keepdim=True), truth], dim=1)
    pixels = truth.sum((0, 2, 3))
    weights = 1 / pixels.square()
    weights = torch.where(pixels > 0, weights, weights[pixels > 0].amax())
    overlap = (weights * (probability * truth).sum((0, 2, 3))).sum()
    total = (weights * (probability + truth).sum((0, 2, 3))).sum()
    loss: Tensor = 1 - 2 * overlap / total
    return loss


def weighted_mean(loss: Tensor, truth: Tensor, weights: Sequence[float] | None) -> Tensor:
    """Return the mean of a loss [B, K, H, W], each pixel weighed by its true class; see `UnetLoss`."""
    if weights is None:
        return loss.mean()
    by_class = torch.tensor(weights[1:], dtype=loss.dtype, device=loss.device).reshape(1, -1, 1, 1)
    pixels = (truth * by_class).sum(1, keepdim=True) + weights[0] * (1 - truth.amax(1, keepdim=True))
    # A batch of nothing but a class of weight 0 has no loss.
    return (loss * pixels).sum() / (pixels.sum() * loss.shape[1]).clamp(min=torch.finfo(loss.dtype).tiny)


def median_frequency_weights(masks: Sequence[NDArray[Any]], classes: int) -> tuple[float, ...]:
    """Return the weights of the background and of each class: the median of all frequencies over its own.

    masks: [H, W]. A single class is every value but 0. The frequency of a class is its share of the images where it
    is. A class that is nowhere has weight 0.
    """
    pixels, seen = np.zeros(classes + 1), np.zeros(classes + 1)
    for mask in masks:
        values = np.minimum(mask, 1) if classes == 1 else mask
        counts = np.bincount(values.ravel(), minlength=classes + 1)
        pixels += counts
        seen += np.where(counts > 0, mask.size, 0)
    present = pixels > 0
    frequencies = pixels[present] / seen[present]
    weights = np.zeros(classes + 1)
    weights[present] = np.median(frequencies) / frequencies
    return tuple(weights.tolist())
