"""Point grids are those of segment-anything's own functions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch")

from segment_anything.utils import amg as library

from segserve.automatic.parameters import AmgParams
from segserve.automatic.point_grids import (
    MAX_POINTS,
    GridRegion,
    check_grid_limits,
    make_point_grid,
    plan_grid_regions,
)
from segserve.errors import BadInput, TooLarge
from segserve.types import Region, Size

sides = st.integers(1, 900)


@given(st.integers(1, 40), sides, sides)
def test_points_are_the_librarys(side: int, width: int, height: int) -> None:
    ours = make_point_grid(GridRegion(Region(3, 4, width, height), side))
    assert ours == pytest.approx(library.build_point_grid(side) * (width, height))


def test_layers_have_fewer_points_by_the_factor() -> None:
    params = AmgParams(points_per_side=9, crop_n_layers=2, crop_n_points_downscale_factor=2)
    sides_of_layers = [grid.points_per_side for grid in plan_grid_regions(Size(500, 400), params)]
    expected = [int(len(points) ** 0.5) for points in library.build_all_layer_point_grids(9, 2, 2)]
    assert sides_of_layers == [expected[0]] + 4 * [expected[1]] + 16 * [expected[2]]


def test_a_layer_without_points_and_too_many_points_are_refused() -> None:
    with pytest.raises(BadInput) as refusal:
        plan_grid_regions(
            Size(9, 9), AmgParams(points_per_side=4, crop_n_layers=2, crop_n_points_downscale_factor=3)
        )
    assert refusal.value.field == "params.crop_n_points_downscale_factor"
    with pytest.raises(TooLarge) as refusal:
        plan_grid_regions(Size(9, 9), AmgParams(points_per_side=100, crop_n_layers=1))
    assert str(MAX_POINTS) in refusal.value.message


def test_the_work_on_all_tiles_together_is_bounded() -> None:
    tiles = [Size(1536, 1536)] * 64
    check_grid_limits(tiles, AmgParams())
    for params in (
        AmgParams(points_per_side=33),
        AmgParams(points_per_side=8, crop_n_layers=2, crop_n_points_downscale_factor=2),
    ):
        with pytest.raises(TooLarge, match="64 tiles"):
            check_grid_limits(tiles, params)
