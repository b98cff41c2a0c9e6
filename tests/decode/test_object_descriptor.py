"""The descriptor of an object, and the likeness of two."""

import numpy as np
import pytest

from segserve.decode.object_descriptor import compute_likeness, measure_descriptor, measure_descriptors
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


def test_the_descriptors_of_all_objects_of_a_label_map_are_those_of_each() -> None:
    random = np.random.default_rng(2)
    embedding = random.normal(size=(8, 4, 4)).astype(np.float16)
    labels = np.zeros((16, 16), np.uint32)
    labels[1:7, 2:9], labels[6:15, 9:14], labels[12:14, 1:3] = 5, 2, 9
    descriptors = measure_descriptors(embedding, labels, (0.25, 0.25))
    expected = [measure_descriptor(embedding, labels == label) for label in (2, 5, 9)]
    assert descriptors == pytest.approx(np.stack(expected), abs=1e-6)
    assert measure_descriptors(embedding, np.zeros((16, 16), np.uint32), (0.25, 0.25)).shape == (0, 8)


def test_the_descriptors_of_an_image_that_fills_a_part_of_the_embedding() -> None:
    embedding = np.zeros((2, 4, 4), np.float32)
    embedding[0, :2], embedding[1, 2:] = 1, 1
    labels = np.ones((10, 20), np.uint8)  # the lower half of the embedding is padding
    assert measure_descriptors(embedding, labels, (0.2, 0.2)).tolist() == [[1, 0]]
