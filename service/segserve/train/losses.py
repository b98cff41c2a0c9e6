"""What training makes small."""

from torch import Tensor
from torch.nn import functional as F

RIM_PX = 9  # low-res pixels: the window of the maximum that makes the rim around an object


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Loss [N, M] of logits [N, M, h, w] against truth [N, 1, h, w], the share of each pixel covered.

    Cross-entropy averaged over the object and a rim around it, plus the average over the rest, plus dice:
    a plain average would drown an object of half a percent of the image.
    """
    inside = truth > 0
    rim = F.max_pool2d(truth, RIM_PX, 1, RIM_PX // 2) > 0
    near, far = (inside | rim).float(), (~(inside | rim)).float()
    bce = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    weighted = (
        bce * (near / near.sum((2, 3), keepdim=True) * 2 + far / far.sum((2, 3), keepdim=True).clamp(min=1))
    ).sum((2, 3))
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    loss: Tensor = weighted + dice
    return loss


def candidate_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """[N, M] of logits [N, M, h, w] and truth [N, 1, h, w]."""
    found, real = logits > 0, truth > 0.5
    overlap = (found & real).sum((2, 3)).float()
    return overlap / (found | real).sum((2, 3)).clamp(min=1)


def automatic_loss(maps: Tensor, truth: Tensor) -> Tensor:
    """Of maps [B, 3, h, w]: dice per channel and cross-entropy, plus the squared error of the distances."""
    overlap = (maps * truth).sum((2, 3))
    dice = 1 - 2 * (overlap + 1) / ((maps**2).sum((2, 3)) + (truth**2).sum((2, 3)) + 2)
    bce = F.binary_cross_entropy(maps.clamp(1e-5, 1 - 1e-5), truth)
    loss: Tensor = dice.mean() + bce + 2 * F.mse_loss(maps[:, 1:], truth[:, 1:])
    return loss


def bce_dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Of logits and truth [B, K, H, W]: cross-entropy plus one minus the Dice of each class over the batch."""
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((0, 2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    loss: Tensor = F.binary_cross_entropy_with_logits(logits, truth) + dice.mean()
    return loss
