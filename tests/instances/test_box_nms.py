"""Boxes are selected as by torchvision: NMS per class, score threshold, maximum number of objects."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from segserve.instances.box_nms import DetectionThresholds, select_boxes

RANDOM = np.random.default_rng(0)


def random_boxes(count: int) -> Any:
    corners = RANDOM.uniform(0, 400, (count, 2))
    sides = RANDOM.uniform(5, 200, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_nms_per_class_is_torchvisions(threshold: float) -> None:
    boxes, scores = random_boxes(3000), RANDOM.random(3000).astype(np.float32)
    labels = RANDOM.integers(1, 4, 3000)
    expected = batched_nms(*(torch.from_numpy(each) for each in (boxes, scores, labels)), threshold).numpy()
    boxes_by_class = np.zeros((3000, 4, 4), np.float32)
    scores_by_class = np.zeros((3000, 4), np.float32)
    boxes_by_class[np.arange(3000), labels], scores_by_class[np.arange(3000), labels] = boxes, scores
    selected = select_boxes(boxes_by_class, scores_by_class, DetectionThresholds(0.0, threshold, 0.5, 3000))
    assert np.array_equal(selected.boxes, boxes[expected])
    assert np.array_equal(selected.labels, labels[expected])


def test_only_requested_classes_count_towards_max_objects() -> None:
    boxes = random_boxes(20)[:, None].repeat(3, axis=1)
    scores = np.tile(np.array([0.1, 0.6, 0.3], np.float32), (20, 1))
    labels = np.array([False, False, True])
    selected = select_boxes(boxes, scores, DetectionThresholds(0.2, 1.0, 0.5, 5, labels))
    assert selected.labels.tolist() == [2] * 5


def test_boxes_without_width_or_height_are_left_out() -> None:
    boxes = np.array([[[0, 0, 5, 5]] * 2, [[3, 3, 3, 9]] * 2], np.float32)
    scores = np.array([[0.1, 0.9]] * 2, np.float32)
    assert len(select_boxes(boxes, scores, DetectionThresholds(0.5, 0.5, 0.5, 10)).scores) == 1
