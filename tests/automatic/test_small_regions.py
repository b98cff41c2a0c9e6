"""Small holes and islands are removed as by segment-anything's `remove_small_regions`."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

torch: Any = pytest.importorskip("torch")

from segment_anything.utils import amg as library

from segserve.automatic.small_regions import remove_small_regions
from segserve.masks.crop import from_mask, to_mask


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30), st.integers(0, 120))
def test_small_holes_and_islands_go_as_in_the_library(seed: int, height: int, width: int, area: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((height, width)) < rng.uniform(0.1, 0.9)
    block = int(rng.integers(1, 5))
    mask = coarse.repeat(block, axis=0).repeat(block, axis=1)
    mask[: rng.integers(0, 3)] = mask[:, : rng.integers(0, 3)] = False  # the crop may end before the image
    assume(mask.any())
    expected, filled = library.remove_small_regions(mask, area, "holes")
    sizes = np.sort(np.bincount(ndimage.label(expected, np.ones((3, 3)))[0].ravel())[1:])
    assume(sizes[-1] >= area or sizes[-1] not in sizes[:-1])  # which of equal islands is the largest is open
    expected, removed = library.remove_small_regions(expected, area, "islands")
    crop, changed = remove_small_regions(from_mask(mask), area)
    assert changed == (filled or removed)
    assert np.array_equal(to_mask(crop), expected)
