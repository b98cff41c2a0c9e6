"""Masks are pasted into the image as by torchvision's `paste_masks_in_image`."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segserve.instances.paste_masks import find_mask_windows, paste_mask
from segserve.masks import crop
from segserve.types import Size
from tests.rounding import bilinear_error, undecided

RANDOM = np.random.default_rng(0)


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
    for mask, (rows, columns), probabilities in zip(
        masks[:, 0], find_mask_windows(boxes, 28, size), exact[:, 0], strict=True
    ):
        ours = crop.to_mask(paste_mask(mask, rows, columns, size, threshold))
        differs = ours != (probabilities >= threshold)
        assert not (differs & ~undecided(probabilities, bilinear_error(np.pad(mask, 1)), threshold)).any()


def test_pasting_in_blocks_gives_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, size = RANDOM.random((28, 28)).astype(np.float32), Size(300, 400)
    [(rows, columns)] = find_mask_windows(np.array([[20, 30, 380, 290]], np.float32), 28, size)
    whole = paste_mask(mask, rows, columns, size, 0.5)
    monkeypatch.setattr("segserve.instances.paste_masks.MAX_RESIZE_VALUES", 1000)
    in_blocks = paste_mask(mask, rows, columns, size, 0.5)
    assert np.array_equal(whole.pixels, in_blocks.pixels)
    assert (whole.x, whole.y) == (in_blocks.x, in_blocks.y)


def test_a_mask_below_the_threshold_is_empty() -> None:
    size = Size(100, 100)
    [(rows, columns)] = find_mask_windows(np.array([[10, 10, 50, 50]], np.float32), 28, size)
    assert crop.area(paste_mask(np.full((28, 28), 0.4, np.float32), rows, columns, size, 0.5)) == 0
