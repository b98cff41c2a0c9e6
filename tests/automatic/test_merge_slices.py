"""Objects of single slices become objects of a volume. `test_merge_slices_oracle` compares with micro-sam."""

import numpy as np
import pytest
from numpy.typing import NDArray

from segserve.automatic.merge_slices import UInt32, VolumeParams, merge_slices
from tests.automatic.drawn_slices import disc, drawn_slices

PLAIN = VolumeParams()


def merge(slices: NDArray[np.integer], params: VolumeParams) -> UInt32:
    labels = slices.astype(np.uint32)
    merge_slices(labels, params)
    return labels


def column(depth: int = 7) -> UInt32:
    """One cell through all slices."""
    return np.stack([disc(20 + index, 30, 10) for index in range(depth)]).astype(np.uint32)


def ids(labels: UInt32) -> list[int]:
    return [each for each in np.unique(labels).tolist() if each]


def test_a_cell_through_slices_gets_one_id_whatever_its_ids_in_the_slices() -> None:
    slices = column()
    merged = merge(slices * np.array([3, 1, 9, 1, 2, 7, 4], np.uint32)[:, None, None], PLAIN)
    assert np.array_equal(merged, slices)


def test_two_cells_that_touch_in_a_slice_stay_two() -> None:
    slices = np.zeros((5, 60, 80), np.uint32)
    for index, each in enumerate(slices):
        reach = 8 + (index == 2) * 2
        each[disc(30, 30, reach)] = 1
        each[disc(49, 30, reach) & (each == 0)] = 2
    assert np.any((slices[2, :, :-1] == 1) & (slices[2, :, 1:] == 2))
    for gap_closing in (None, 1):
        merged = merge(slices, VolumeParams(gap_closing=gap_closing))
        assert np.array_equal(merged, slices)


def test_consecutive_cells_that_hardly_overlap_are_two() -> None:
    slices = np.zeros((4, 60, 80), np.uint32)
    slices[:2] = disc(25, 30, 10)
    slices[2:] = disc(41, 30, 10)
    assert ids(merge(slices, PLAIN)) == [1, 2]


def test_a_higher_beta_joins_less() -> None:
    slices = np.stack([disc(25, 30, 10), disc(33, 30, 10)]).astype(np.uint32)
    assert ids(merge(slices, VolumeParams(beta=0.5))) == [1]
    assert ids(merge(slices, VolumeParams(beta=0.9))) == [1, 2]


@pytest.mark.parametrize(("missed", "gap_closing"), [([3], 1), ([3, 4], 1), ([3, 4, 5], 2)])
def test_a_gap_is_closed(missed: list[int], gap_closing: int) -> None:
    slices = column(9)
    slices[missed] = 0
    assert ids(merge(slices, PLAIN)) == [1, 2]
    closed = merge(slices, VolumeParams(gap_closing=gap_closing))
    assert ids(closed) == [1]
    assert closed[missed].any(axis=(1, 2)).all()
    assert closed[slices > 0].all()


def test_a_longer_gap_stays_open() -> None:
    slices = column(9)
    slices[[3, 4, 5]] = 0
    assert ids(merge(slices, VolumeParams(gap_closing=1))) == [1, 2]


def test_closing_a_gap_does_not_join_neighbours() -> None:
    slices = np.zeros((7, 60, 80), np.uint32)
    slices[:, disc(30, 30, 8)] = 1
    slices[:, disc(50, 30, 8)] = 2
    slices[3][slices[3] == 1] = 0
    merged = merge(slices, VolumeParams(gap_closing=1))
    assert ids(merged) == [1, 2]
    assert merged[3, 30, 30] == merged[2, 30, 30] != merged[3, 30, 50]


def test_an_empty_slice_at_an_end_joins_nothing() -> None:
    slices = np.zeros((9, 60, 80), np.uint32)
    slices[0] = disc(20, 20, 8)
    slices[2:] = disc(60, 40, 8)
    merged = merge(slices, VolumeParams(gap_closing=2))
    assert merged[0, 20, 20] == 1
    assert merged[4, 40, 60] == 2


def test_min_z_extent_removes_objects_through_fewer_slices() -> None:
    slices = np.zeros((6, 60, 80), np.uint32)
    slices[0, disc(20, 20, 6)] = 1  # in one slice
    slices[1:3, disc(60, 20, 6)] = 2  # in two
    slices[1:4, disc(40, 45, 6)] = 3  # in three
    assert ids(merge(slices, PLAIN)) == [1, 2, 3]
    merged = merge(slices, VolumeParams(min_z_extent=3))
    assert ids(merged) == [1]
    assert np.array_equal(merged > 0, slices == 3)


def test_ids_have_no_gaps_and_follow_the_slices() -> None:
    merged = merge(drawn_slices(40, seed=1), VolumeParams(gap_closing=1, min_z_extent=2))
    assert ids(merged) == list(range(1, len(ids(merged)) + 1))
    begins = [int((merged == each).any(axis=(1, 2)).argmax()) for each in ids(merged)]
    assert begins == sorted(begins)


def test_the_same_slices_give_the_same_labels() -> None:
    slices, params = drawn_slices(40, seed=2), VolumeParams(gap_closing=1)
    assert np.array_equal(merge(slices, params), merge(slices, params))


def test_a_slice_without_background_is_like_any_other() -> None:
    slices = np.ones((3, 20, 30), np.uint32)
    slices[:, :, 15:] = 2
    assert np.array_equal(merge(slices, PLAIN), slices)


@pytest.mark.parametrize("params", [PLAIN, VolumeParams(gap_closing=2, min_z_extent=2)])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_empty_slices_stay_empty(depth: int, params: VolumeParams) -> None:
    assert not merge(np.zeros((depth, 20, 30), np.uint16), params).any()
