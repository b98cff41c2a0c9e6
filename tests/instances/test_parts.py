"""Resizing, choosing and pasting, each against torchvision's own."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms

from segserve.instances.box_nms import DetectionThresholds, select_boxes
from segserve.instances.paste_masks import find_mask_windows, paste_mask
from segserve.instances.preprocess import compute_resized_size, resize_and_normalise
from segserve.masks import crop
from segserve.models.manifest import ResizeEntry
from segserve.types import Size
from tests.models.networks import noise_image
from tests.rounding import UNIT, bilinear, bilinear_error, undecided

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COCO = ResizeEntry(
    min_size=800, max_size=1333, mean=tuple(255 * m for m in MEAN), std=tuple(255 * s for s in STD)
)
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (333, 333), (1200, 1600), (2000, 300), (50, 61), (799, 1334)]
)
def test_images_are_resized_as_torchvision_does(height: int, width: int) -> None:
    image = noise_image(height, width)
    transform = GeneralizedRCNNTransform(800, 1333, list(MEAN), list(STD)).eval()
    expected, _ = transform([torch.from_numpy(image).permute(2, 0, 1) / 255])
    tensor, shown = resize_and_normalise(image, COCO)
    assert (shown.height, shown.width) == expected.image_sizes[0]
    assert tensor.shape == expected.tensors.shape
    exact = (bilinear(image.astype(np.float64), shown.height, shown.width) / 255 - MEAN) / STD
    error = (bilinear_error(image.astype(np.float64)) / 255 + 4 * UNIT) / min(STD)  # 4: of the normalisation
    for result in (tensor, expected.tensors.numpy()):
        visible = result[0, :, : shown.height, : shown.width].transpose(1, 2, 0)
        assert np.abs(visible - exact).max() <= error
        assert not result[0, :, shown.height :].any()
        assert not result[0, :, :, shown.width :].any()


def test_a_line_of_pixels_keeps_a_height() -> None:
    assert compute_resized_size(Size(1, 4000), COCO) == Size(1, 1333)


def random_boxes(count: int) -> Any:
    corners = RANDOM.uniform(0, 400, (count, 2))
    sides = RANDOM.uniform(5, 200, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_suppression_is_torchvisions(threshold: float) -> None:
    boxes, scores = random_boxes(3000), RANDOM.random(3000).astype(np.float32)
    labels = RANDOM.integers(1, 4, 3000)
    expected = batched_nms(*(torch.from_numpy(each) for each in (boxes, scores, labels)), threshold).numpy()
    every = np.zeros((3000, 4, 4), np.float32)
    spread = np.zeros((3000, 4), np.float32)
    every[np.arange(3000), labels], spread[np.arange(3000), labels] = boxes, scores
    chosen = select_boxes(every, spread, DetectionThresholds(0.0, threshold, 0.5, 3000))
    assert np.array_equal(chosen.boxes, boxes[expected])
    assert np.array_equal(chosen.labels, labels[expected])


def test_only_the_classes_that_are_wanted_count_towards_the_most() -> None:
    boxes = random_boxes(20)[:, None].repeat(3, axis=1)
    scores = np.tile(np.array([0.1, 0.6, 0.3], np.float32), (20, 1))
    labels = np.array([False, False, True])
    chosen = select_boxes(boxes, scores, DetectionThresholds(0.2, 1.0, 0.5, 5, labels))
    assert chosen.labels.tolist() == [2] * 5


def test_boxes_that_are_lines_are_left_out() -> None:
    boxes = np.array([[[0, 0, 5, 5]] * 2, [[3, 3, 3, 9]] * 2], np.float32)
    scores = np.array([[0.1, 0.9]] * 2, np.float32)
    assert len(select_boxes(boxes, scores, DetectionThresholds(0.5, 0.5, 0.5, 10)).scores) == 1


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.99])
def test_masks_are_pasted_as_torchvision_does(threshold: float) -> None:
    size = Size(150, 260)
    boxes = np.array(
        [
            [10, 20, 60, 90],
            [0, 0, 260, 150],  # the whole image: the border lies outside
            [-30.7, -12.2, 30.4, 31.9],
            [240.5, 120.5, 260, 150],
            [100.2, 100.2, 100.9, 100.8],  # less than a pixel
            [5, 60, 255, 61],
        ],
        np.float32,
    )
    masks = RANDOM.random((len(boxes), 1, 28, 28)).astype(np.float32)
    exact = paste_masks_in_image(
        torch.from_numpy(masks).double(), torch.from_numpy(boxes), (150, 260)
    ).numpy()
    for mask, place, probabilities in zip(
        masks[:, 0], find_mask_windows(boxes, 28, size), exact[:, 0], strict=True
    ):
        ours = crop.to_mask(paste_mask(mask, *place, size, threshold))
        differs = ours != (probabilities >= threshold)
        assert not (differs & ~undecided(probabilities, bilinear_error(np.pad(mask, 1)), threshold)).any()


def test_a_mask_of_a_large_image_is_pasted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, size = RANDOM.random((28, 28)).astype(np.float32), Size(300, 400)
    [place] = find_mask_windows(np.array([[20, 30, 380, 290]], np.float32), 28, size)
    whole = paste_mask(mask, *place, size, 0.5)
    monkeypatch.setattr("segserve.instances.paste_masks.MAX_RESIZE_VALUES", 1000)
    parts = paste_mask(mask, *place, size, 0.5)
    assert np.array_equal(whole.pixels, parts.pixels)
    assert (whole.x, whole.y) == (parts.x, parts.y)


def test_a_mask_below_the_threshold_is_empty() -> None:
    size = Size(100, 100)
    [place] = find_mask_windows(np.array([[10, 10, 50, 50]], np.float32), 28, size)
    assert crop.area(paste_mask(np.full((28, 28), 0.4, np.float32), *place, size, 0.5)) == 0
