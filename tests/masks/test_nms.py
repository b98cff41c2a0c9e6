"""Non-maximum suppression keeps the boxes that torchvision's keeps, in the same order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch")

import torchvision.ops

from segserve.masks.nms import nms


@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_the_same_boxes_stay_in_the_same_order(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    scores = rng.integers(0, 20, count).astype(np.float32)  # with ties
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert nms(boxes, scores, threshold).tolist() == expected.tolist()
    assert nms(boxes, scores, threshold, max_boxes=10).tolist() == expected.tolist()[:10]
