"""Loss functions of promptable models: Dice, binary cross-entropy, and the squared error of distances."""

from torch import Tensor
from torch.nn import functional as F

RIM_PX = 9  # low-res pixels: the size of the max-pooling window that grows an object by its rim
# By how much a better candidate's score should lead.
SCORE_LEAD = 0.05
# Of the order of candidates, against the error of their scores.
ORDER_WEIGHT = 0.4


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the loss [N, M] of M candidate masks for each of N objects.

    logits: [N, M, h, w].
    truth: [N, 1, h, w], the covered share of each pixel, 0 to 1.
    The loss is the cross-entropy averaged over the object and a rim around it, plus its average over the rest, plus
    Dice. A plain average would drown an object of half a percent of the image.
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
    """Return the IoU [N, M] of candidate masks, logits [N, M, h, w], with the truth [N, 1, h, w]."""
    predicted, true = logits > 0, truth > 0.5
    overlap = (predicted & true).sum((2, 3)).float()
    return overlap / (predicted | true).sum((2, 3)).clamp(min=1)


def score_loss(scores: Tensor, iou: Tensor) -> Tensor:
    """Return the loss of predicted scores [N, M] of M candidate masks for each of N objects.

    iou: [N, M], what the scores should be.
    The loss is the squared error, plus for each two candidates of an object a logistic loss of their order, weighted by
    how much the choice between them matters.
    """
    gain = iou[:, :, None] - iou[:, None]
    lead = scores[:, :, None] - scores[:, None]
    misordered = gain.abs() * F.softplus(-gain.sign() * lead / SCORE_LEAD)
    pairs = iou.shape[1] * (iou.shape[1] - 1)
    loss: Tensor = F.mse_loss(scores, iou) + ORDER_WEIGHT * misordered.sum((1, 2)).mean() / pairs
    return loss


def automatic_loss(maps: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of the automatic decoder (AIS): Dice by channel, cross-entropy, squared error of the distances.

    maps, truth: [B, 3, h, w], foreground, distance to the centre, distance to the boundary, each 0 to 1.
    """
    overlap = (maps * truth).sum((2, 3))
    dice = 1 - 2 * (overlap + 1) / ((maps**2).sum((2, 3)) + (truth**2).sum((2, 3)) + 2)
    bce = F.binary_cross_entropy(maps.clamp(1e-5, 1 - 1e-5), truth)
    loss: Tensor = dice.mean() + bce + 2 * F.mse_loss(maps[:, 1:], truth[:, 1:])
    return loss
