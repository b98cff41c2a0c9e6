"""Labels are turned to the scan's grid where the axes differ, else refused with what differs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.files.match_grid import match_grid
from segserve.files.volume_geometry import VolumeGeometry, create_geometry

SIZE = (5, 4, 3)
SCAN_AFFINE = np.array([[0.5, 0.1, 0, -20], [-0.1, 0.75, 0.2, 30], [0.1, 0, 2, 40], [0, 0, 0, 1]])
SCAN = create_geometry(SIZE, SCAN_AFFINE, is_placed=True)
LABELS = np.arange(60).reshape(3, 4, 5)  # z, y, x


def turn(order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, VolumeGeometry]:
    """Return the labels stored with other axes: axis n is axis order[n] of the scan, and may run backwards."""
    step = np.zeros((4, 4))
    step[3, 3] = 1
    labels = LABELS.transpose([2 - axis for axis in reversed(order)])
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step[source, axis] = -1 if flip else 1
        step[source, 3] = SIZE[source] - 1 if flip else 0
        if flip:
            labels = np.flip(labels, 2 - axis)
    size = tuple(SIZE[source] for source in order)
    return labels, create_geometry(size, SCAN_AFFINE @ step, is_placed=True)


def test_every_order_and_sense_of_axes() -> None:
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            labels, geometry = turn(order, flips)
            assert np.array_equal(match_grid(labels, geometry, SCAN, field="x"), LABELS)


def test_rounding_of_headers_counts_as_the_same() -> None:
    affine = SCAN_AFFINE.astype(np.float32).astype(float)
    affine[0, 3] += 0.001
    labels = match_grid(LABELS, create_geometry(SIZE, affine, is_placed=True), SCAN, field="x")
    assert np.array_equal(labels, LABELS)


def test_labels_that_say_nothing_of_their_place_count_voxel_for_voxel() -> None:
    unplaced = create_geometry(SIZE, np.eye(4), is_placed=False)
    assert np.array_equal(match_grid(LABELS, unplaced, SCAN, field="x"), LABELS)
    with pytest.raises(BadInput, match="size is 4 x 5 x 3, the scan's 5 x 4 x 3"):
        match_grid(LABELS, replace(unplaced, size=(4, 5, 3)), SCAN, field="x")


def shift(millimetres: float) -> VolumeGeometry:
    return replace(SCAN, origin=(SCAN.origin[0] + millimetres, *SCAN.origin[1:]))


def rotate(degrees: float) -> VolumeGeometry:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    around = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = SCAN_AFFINE.copy()
    affine[:3, :3] = around @ affine[:3, :3]
    centre = [2, 1.5, 1]
    affine[:3, 3] += (SCAN_AFFINE[:3, :3] - affine[:3, :3]) @ centre
    return create_geometry(SIZE, affine, is_placed=True)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (replace(SCAN, size=(5, 4, 2)), "size is 5 x 4 x 2, the scan's 5 x 4 x 3"),
        (replace(SCAN, spacing=(1, 1, 1)), "spacing is 1 x 1 x 1 mm, the scan's 0.5196"),
        (shift(1.25), r"centre lies 1.25, 0, 0 mm \(left, back, top\)"),
        (rotate(30), "other directions"),
    ],
)
def test_other_grids_are_refused_with_what_differs(geometry: VolumeGeometry, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        match_grid(LABELS, geometry, SCAN, field="params.reference.file_id")
    assert raised.value.field == "params.reference.file_id"
