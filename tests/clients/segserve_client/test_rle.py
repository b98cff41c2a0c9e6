"""Masks as COCO's run lengths: the client's own code is bit for bit what pycocotools does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from segserve_client import Rle

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(masks)
def test_both_ways_as_pycocotools(mask: np.ndarray) -> None:
    ours = Rle.from_array(mask)
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours.counts == reference["counts"].decode()
    assert ours.size == tuple(reference["size"])
    np.testing.assert_array_equal(Rle(ours.size, ours.counts).array, mask)


def test_runs_of_millions() -> None:
    mask = np.zeros((3000, 4000), np.bool_)
    mask[100:2900, 5:3990] = True
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert Rle.from_array(mask).counts == reference["counts"].decode()
    np.testing.assert_array_equal(Rle((3000, 4000), reference["counts"].decode()).array, mask)


def test_any_numbers_are_a_mask() -> None:
    labels = np.array([[0, 7], [2, 0]], np.int32)
    np.testing.assert_array_equal(Rle.from_array(labels).array, labels > 0)


@pytest.mark.parametrize("counts", ["", "4", "zz", "1\x7f", "é", "5o", "P1"])
def test_other_strings_are_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        _ = Rle((2, 3), counts).array
