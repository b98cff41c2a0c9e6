"""What is small or pale beside the other objects of a volume is none."""

import numpy as np
import pytest

from segserve.automatic.false_objects import ObjectTotals, build_removal_table, find_false_objects
from segserve.types import Float32
from tests.automatic.drawn_slices import disc


def make_totals(values: dict[int, tuple[int, int, float]]) -> ObjectTotals:
    """Return the totals of objects with these voxels, slices and contrasts."""
    totals = ObjectTotals(len(values))
    for number, (voxels, slices, contrast) in values.items():
        totals.voxels[number] = totals.measured[number] = voxels
        totals.slices[number] = slices
        totals.contrasts[number] = contrast * voxels
    return totals


CELLS = {1: (1000, 9, 80.0), 2: (900, 8, 100.0), 3: (1200, 9, 90.0)}


def list_false(totals: ObjectTotals, min_size_share: float = 0.05, min_contrast: float = 0.3) -> list[int]:
    return np.flatnonzero(find_false_objects(totals, min_size_share, min_contrast)).tolist()


def test_an_object_far_smaller_than_the_others_is_none() -> None:
    totals = make_totals(CELLS | {4: (40, 2, 90.0), 5: (60, 2, 90.0)})
    assert list_false(totals) == [4]
    assert list_false(totals, min_size_share=0) == []


@pytest.mark.parametrize(("contrast", "is_false"), [(40.0, False), (20.0, True), (0.0, True), (-90.0, True)])
def test_an_object_that_is_pale_beside_the_others_is_none(contrast: float, is_false: bool) -> None:
    totals = make_totals(CELLS | {4: (1000, 9, contrast)})
    assert list_false(totals) == ([4] if is_false else [])
    assert list_false(totals, min_contrast=0) == []


def test_dark_objects_are_as_good_as_bright_ones() -> None:
    dark = {number: (voxels, slices, -contrast) for number, (voxels, slices, contrast) in CELLS.items()}
    assert list_false(make_totals(dark | {4: (1000, 9, 90.0)})) == [4]


def test_many_specks_on_single_slices_do_not_make_the_median() -> None:
    assert list_false(make_totals(CELLS | dict.fromkeys(range(4, 40), (20, 1, 90.0)))) == list(range(4, 40))


def test_a_volume_of_one_slice_keeps_its_objects() -> None:
    assert list_false(make_totals(dict.fromkeys(range(1, 6), (100, 1, 50.0)))) == []


def test_an_object_without_known_contrast_stays() -> None:
    totals = make_totals(CELLS | {4: (1000, 9, 0.0)})
    totals.measured[4] = 0
    assert list_false(totals) == []
    assert list_false(ObjectTotals(0)) == []


def test_slices_are_summed_up() -> None:
    joined = disc(30, 30, 8).astype(np.uint32) * 2
    labels = np.where(joined > 0, 9, 0)
    contrasts: Float32 = np.full((1, 3), 50, np.float32)
    totals = ObjectTotals(2)
    totals.add_slice(joined, labels, contrasts)
    totals.add_slice(joined, labels, None)
    area = int((joined > 0).sum())
    assert totals.voxels[1:].tolist() == [0, 2 * area]
    assert totals.slices[1:].tolist() == [0, 2]
    assert totals.measured[2] == area
    assert totals.contrasts[2] == pytest.approx(50 * area)


def test_the_objects_that_stay_are_numbered_in_order() -> None:
    assert build_removal_table(np.array([False, True, False, True, False])).tolist() == [0, 0, 1, 0, 2]
