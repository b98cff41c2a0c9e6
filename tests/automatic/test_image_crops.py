"""Crops of an image, and boxes that they cut, are those of segment-anything's own functions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch")

from segment_anything.utils import amg as library

from segserve.automatic.image_crops import find_boxes_near_crop_edge, make_crop_layer
from segserve.types import Region, Size

sides = st.integers(1, 900)


@given(sides, sides, st.integers(0, 3), st.floats(0, 0.9))
def test_crops_are_the_librarys(width: int, height: int, layers: int, overlap: float) -> None:
    boxes, layer_of = library.generate_crop_boxes((height, width), layers, overlap)
    expected = [
        Region(x0, y0, x1 - x0, y1 - y0)
        for (x0, y0, x1, y1), layer in zip(boxes, layer_of, strict=True)
        if layer and x0 < x1 and y0 < y1  # of tiny images the library makes empty crops, and fails on them
    ]
    size = Size(height, width)
    assert [
        region for layer in range(1, layers + 1) for region in make_crop_layer(size, layer, overlap)
    ] == expected


@given(st.integers(0, 2**32))
def test_the_same_boxes_are_near_a_crops_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    region, size = Region(100, 0, 200, 150), Size(150, 400)
    boxes = rng.integers(0, 200, (50, 4)).astype(np.float32) + np.float32([100, 0, 100, 0])
    inside = torch.from_numpy(boxes - np.float32([100, 0, 100, 0]))
    expected = library.is_box_near_crop_edge(inside, [100, 0, 300, 150], [0, 0, 400, 150])
    assert find_boxes_near_crop_edge(boxes, region, size).tolist() == expected.tolist()
