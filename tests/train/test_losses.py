"""Losses of promptable models: scores learn the IoU of masks, and their order."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.train.losses import candidate_iou, score_loss
from segserve.train.promptable_trainer import measure_iou


def test_scores_that_are_the_iou_cost_least() -> None:
    iou = torch.tensor([[0.9, 0.5, 0.7, 0.2]])
    exact = score_loss(iou, iou)
    assert exact < 0.01
    for wrong in (iou + 0.2, iou.flip(1), torch.full_like(iou, 0.6)):
        assert score_loss(wrong, iou) > 2 * exact


def test_the_order_of_two_candidates_counts_by_what_is_lost() -> None:
    """Both pairs of scores are as far from the truth; one of them chooses the worse mask."""
    iou = torch.tensor([[0.6, 0.7]])
    assert score_loss(iou + torch.tensor([[0.1, -0.1]]), iou) > score_loss(
        iou + torch.tensor([[-0.1, 0.1]]), iou
    )
    same = torch.tensor([[0.6, 0.6]])
    apart = torch.tensor([[0.5, 0.7]])
    assert score_loss(apart, same) == pytest.approx(0.01), "no choice to make, so squared errors alone"


def test_the_gradient_lifts_the_better_candidate() -> None:
    scores = torch.tensor([[0.6, 0.6, 0.6]], requires_grad=True)
    score_loss(scores, torch.tensor([[0.6, 0.8, 0.4]])).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] < scores.grad[0, 0] < scores.grad[0, 2]


def test_iou_is_measured_at_the_size_of_the_truth() -> None:
    rows, columns = np.mgrid[:64, :64] - 30.5
    distance = torch.from_numpy(10.0 - np.hypot(rows, columns)).float()[None, None]
    truth = (distance > 0).float()
    low = torch.nn.functional.avg_pool2d(distance, 4)
    coarse = candidate_iou(low, (torch.nn.functional.avg_pool2d(truth, 4) > 0.5).float())
    assert measure_iou(low, truth).item() > 0.96
    assert coarse.shape == (1, 1)
