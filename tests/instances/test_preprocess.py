"""Images are resized and normalised as by torchvision's GeneralizedRCNNTransform."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from segserve.instances.preprocess import compute_resized_size, resize_and_normalise
from segserve.models.manifest import ResizeEntry
from segserve.types import Size
from tests.models.networks import noise_image
from tests.rounding import UNIT, bilinear, bilinear_error

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COCO = ResizeEntry(
    min_size=800, max_size=1333, mean=tuple(255 * m for m in MEAN), std=tuple(255 * s for s in STD)
)


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (333, 333), (1200, 1600), (2000, 300), (50, 61), (799, 1334)]
)
def test_images_are_resized_as_torchvision_does(height: int, width: int) -> None:
    image = noise_image(height, width)
    transform = GeneralizedRCNNTransform(800, 1333, list(MEAN), list(STD)).eval()
    expected, _ = transform([torch.from_numpy(image).permute(2, 0, 1) / 255])
    tensor, resized = resize_and_normalise(image, COCO)
    assert (resized.height, resized.width) == expected.image_sizes[0]
    assert tensor.shape == expected.tensors.shape
    exact = (bilinear(image.astype(np.float64), resized.height, resized.width) / 255 - MEAN) / STD
    error = (bilinear_error(image.astype(np.float64)) / 255 + 4 * UNIT) / min(STD)  # 4: of the normalisation
    for result in (tensor, expected.tensors.numpy()):
        visible = result[0, :, : resized.height, : resized.width].transpose(1, 2, 0)
        assert np.abs(visible - exact).max() <= error
        assert not result[0, :, resized.height :].any()
        assert not result[0, :, :, resized.width :].any()


def test_a_line_of_pixels_keeps_a_height() -> None:
    assert compute_resized_size(Size(1, 4000), COCO) == Size(1, 1333)
