"""Grids, crops and filters are those of segment-anything's own functions, one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

torch: Any = pytest.importorskip("torch")

from segment_anything.utils import amg as library
from torchvision.ops import nms

from segserve.automatic.nms import near_crop_edge, non_maximum, without_small_regions
from segserve.automatic.point_grids import MOST_POINTS, AmgParams, Part, check_work, crops, grid, parts
from segserve.errors import BadInput, TooLarge
from segserve.masks.crop import from_mask, to_mask
from segserve.types import Region, Size

sides = st.integers(1, 900)


@given(st.integers(1, 40), sides, sides)
def test_points_are_the_librarys(side: int, width: int, height: int) -> None:
    ours = grid(Part(Region(3, 4, width, height), side))
    assert ours == pytest.approx(library.build_point_grid(side) * (width, height))


@given(sides, sides, st.integers(0, 3), st.floats(0, 0.9))
def test_crops_are_the_librarys(width: int, height: int, layers: int, overlap: float) -> None:
    boxes, layer_of = library.generate_crop_boxes((height, width), layers, overlap)
    expected = [
        Region(x0, y0, x1 - x0, y1 - y0)
        for (x0, y0, x1, y1), layer in zip(boxes, layer_of, strict=True)
        if layer and x0 < x1 and y0 < y1  # of tiny images the library makes empty crops, and fails on them
    ]
    size = Size(height, width)
    assert [region for layer in range(1, layers + 1) for region in crops(size, layer, overlap)] == expected


def test_layers_have_fewer_points_by_the_factor() -> None:
    params = AmgParams(points_per_side=9, crop_n_layers=2, crop_n_points_downscale_factor=2)
    found = [part.points_per_side for part in parts(Size(500, 400), params)]
    expected = [int(len(points) ** 0.5) for points in library.build_all_layer_point_grids(9, 2, 2)]
    assert found == [expected[0]] + 4 * [expected[1]] + 16 * [expected[2]]


def test_a_layer_without_points_and_more_points_than_can_be_are_refused() -> None:
    with pytest.raises(BadInput) as refusal:
        parts(Size(9, 9), AmgParams(points_per_side=4, crop_n_layers=2, crop_n_points_downscale_factor=3))
    assert refusal.value.field == "params.crop_n_points_downscale_factor"
    with pytest.raises(TooLarge) as refusal:
        parts(Size(9, 9), AmgParams(points_per_side=100, crop_n_layers=1))
    assert str(MOST_POINTS) in refusal.value.message


@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_the_same_boxes_stay_in_the_same_order(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    scores = rng.integers(0, 20, count).astype(np.float32)  # with ties
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert non_maximum(boxes, scores, threshold).tolist() == expected.tolist()


@given(st.integers(0, 2**32))
def test_the_same_boxes_are_near_a_crops_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    region, size = Region(100, 0, 200, 150), Size(150, 400)
    boxes = rng.integers(0, 200, (50, 4)).astype(np.float32) + np.float32([100, 0, 100, 0])
    inside = torch.from_numpy(boxes - np.float32([100, 0, 100, 0]))
    expected = library.is_box_near_crop_edge(inside, [100, 0, 300, 150], [0, 0, 400, 150])
    assert near_crop_edge(boxes, region, size).tolist() == expected.tolist()


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
    crop, changed = without_small_regions(from_mask(mask), area)
    assert changed == (filled or removed)
    assert np.array_equal(to_mask(crop), expected)


def test_the_work_on_all_tiles_together_is_bounded() -> None:
    tiles = [Size(1536, 1536)] * 64
    check_work(tiles, AmgParams())
    for params in (
        AmgParams(points_per_side=33),
        AmgParams(points_per_side=8, crop_n_layers=2, crop_n_points_downscale_factor=2),
    ):
        with pytest.raises(TooLarge, match="64 tiles"):
            check_work(tiles, params)
