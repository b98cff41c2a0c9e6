"""The descriptor of an object, and the likeness of two."""

import numpy as np
import pytest

from segserve.decode.object_descriptor import compute_likeness, measure_descriptor
from segserve.types import Float32


def test_the_descriptor_is_the_mean_direction_of_the_cells_under_the_mask() -> None:
    embedding = np.zeros((3, 4, 4), np.float16)
    embedding[0], embedding[1, 1, 1], embedding[0, 1, 1], embedding[2, 1, 2] = 7, 2, 0, 0.5
    embedding[0, 1, 2] = 0
    logits: Float32 = np.full((16, 16), -1, np.float32)
    logits[4:8, 4:8] = 1  # all of cell (1, 1)
    assert measure_descriptor(embedding, logits > 0).tolist() == [0, 1, 0]
    logits[4:8, 8:11] = 1  # three quarters of cell (1, 2)
    expected = np.array([0, 1, 0.75]) / np.hypot(1, 0.75)
    assert measure_descriptor(embedding, logits > 0) == pytest.approx(expected)
    assert not measure_descriptor(embedding, np.zeros((16, 16), np.bool_)).any()


def test_likeness_is_the_cosine() -> None:
    mask = np.zeros((16, 16), np.bool_)
    mask[5:12, 3:9] = True
    embedding = np.random.default_rng(1).normal(size=(8, 4, 4)).astype(np.float32)
    first, opposite = (measure_descriptor(sign * embedding, mask) for sign in (1, -1))
    assert compute_likeness(first, first) == pytest.approx(1)
    assert compute_likeness(first, opposite) == pytest.approx(-1)
