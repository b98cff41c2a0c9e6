"""Hausdorff distances are those of MedPy and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medpy.metric.binary import hd, hd95
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, directed_hausdorff

from segserve.evaluate.hausdorff import (
    boundary_hausdorff,
    find_boundaries,
    max_hausdorff,
    point_hausdorff,
    region_hausdorff,
)
from tests.evaluate.drawn_labels import draw_scene

SPACINGS = [(1.0, 1.0), (0.5, 0.5), (0.65, 0.3)]


def scipy_hausdorff(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    return float(max(directed_hausdorff(truth, prediction)[0], directed_hausdorff(prediction, truth)[0]))


def scipy_hausdorff_95(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    distances = cdist(truth, prediction)
    return float(np.percentile(np.concatenate([distances.min(0), distances.min(1)]), 95))


def draw_outline(count: int, seed: int) -> NDArray[np.float64]:
    """Return a closed wobbly outline of `count` points [count, 2], about one pixel apart."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    waves = sum(rng.uniform(0, 0.1) * np.cos(k * angle + rng.uniform(0, 7)) for k in range(2, 8))
    return count / 6 * (1 + np.asarray(waves))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_boundary_hausdorff_is_medpys(spacing: tuple[float, float]) -> None:
    for seed in range(3):
        truth, prediction = (each > 0 for each in draw_scene(seed))
        ours = boundary_hausdorff(truth, prediction, spacing)
        assert ours.hausdorff == pytest.approx(hd(prediction, truth, voxelspacing=spacing))
        assert ours.hausdorff_95 == pytest.approx(hd95(prediction, truth, voxelspacing=spacing))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_region_hausdorff_is_scipys_over_all_pixels(spacing: tuple[float, float]) -> None:
    for seed in range(3):
        truth, prediction = (each > 0 for each in draw_scene(seed, size=(50, 60), count=6))
        pixels = [np.argwhere(each) * np.array(spacing) for each in (truth, prediction)]
        ours = region_hausdorff(truth, prediction, spacing)
        assert ours.hausdorff == pytest.approx(scipy_hausdorff(*pixels))
        assert ours.hausdorff_95 == pytest.approx(scipy_hausdorff_95(*pixels))


def test_regions_and_boundaries_differ_where_a_hole_is_missed() -> None:
    full = np.zeros((40, 40), bool)
    full[4:36, 4:36] = True
    ring = full.copy()
    ring[19:21, 19:21] = False
    assert region_hausdorff(full, ring).hausdorff == 1
    assert boundary_hausdorff(full, ring).hausdorff == 14  # from the hole's rim to the outer boundary


def test_beyond_the_images_border_is_outside() -> None:
    full = np.ones((5, 7), bool)
    assert find_boundaries(full).sum() == 20
    assert boundary_hausdorff(full, full).hausdorff == 0


def test_objects_that_touch_have_a_boundary_between_them() -> None:
    labels = np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 7)
    labels[[0, -1]] = 0
    assert np.flatnonzero(find_boundaries(labels)[3]).tolist() == [1, 3, 4, 6]
    assert np.flatnonzero(find_boundaries(labels > 0)[3]).tolist() == [1, 6]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (draw_outline(2000, 0), draw_outline(2000, 1)),
        (draw_outline(2000, 0), draw_outline(2000, 0) + 3),
        (draw_outline(2000, 0), draw_outline(2000, 0)),
        (draw_outline(2000, 0), 1.3 * draw_outline(1500, 0)),
        (draw_outline(2000, 0)[np.random.default_rng(0).permutation(2000)], draw_outline(700, 2)),
        (np.rint(draw_outline(500, 3)), np.rint(draw_outline(500, 4))),
    ],
)
def test_point_hausdorff_is_scipys(one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    expected = scipy_hausdorff(one, other)
    assert max_hausdorff(one, other) == pytest.approx(expected)
    assert point_hausdorff(one, other).hausdorff == pytest.approx(expected)
    assert point_hausdorff(one, other).hausdorff_95 == pytest.approx(scipy_hausdorff_95(one, other))


@given(st.integers(0, 1 << 32), st.integers(1, 700), st.integers(1, 700), st.sampled_from([3, 30, 3000]))
def test_points_that_are_ruled_out_change_neither_maximum_nor_percentile(
    seed: int, first: int, second: int, extent: int
) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, extent, (count, 2)).astype(float) for count in (first, second))
    assert max_hausdorff(one, other) == pytest.approx(scipy_hausdorff(one, other))
    assert point_hausdorff(one, other).hausdorff == pytest.approx(scipy_hausdorff(one, other))
    assert point_hausdorff(one, other).hausdorff_95 == pytest.approx(scipy_hausdorff_95(one, other))


def test_points_may_have_three_dimensions() -> None:
    one, other = np.random.default_rng(0).random((2, 900, 3))
    assert point_hausdorff(one, other).hausdorff_95 == pytest.approx(scipy_hausdorff_95(one, other))
    assert max_hausdorff(one, other) == pytest.approx(scipy_hausdorff(one, other))


def test_the_distance_of_empty_sets_is_0_and_to_an_empty_set_infinite() -> None:
    nothing, something = np.zeros((9, 9), bool), np.eye(9, dtype=bool)
    for measure in (region_hausdorff, boundary_hausdorff):
        both, one, other = measure(nothing, nothing), measure(something, nothing), measure(nothing, something)
        assert (both.hausdorff, both.hausdorff_95) == (0, 0)
        assert {one.hausdorff, one.hausdorff_95, other.hausdorff, other.hausdorff_95} == {math.inf}
    assert max_hausdorff(np.empty((0, 2)), np.empty((0, 2))) == 0
    assert max_hausdorff(np.empty((0, 2)), np.ones((1, 2))) == math.inf
