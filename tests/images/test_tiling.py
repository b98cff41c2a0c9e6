"""Tiles with halos cover a large image, and a prompt gets a window that contains it."""

import numpy as np
import pytest

from segserve.images.tiling import TileGrid, choose_window, make_tile_grid, region_contains
from segserve.types import Box, Region, Size


@pytest.mark.parametrize("size", [Size(10, 10), Size(100, 37), Size(64, 64), Size(1, 129)])
def test_inner_parts_cover_the_image_once_and_halos_surround_them(size: Size) -> None:
    tiles = TileGrid(size, 32, 8)
    covered = np.zeros((size.height, size.width), int)
    for tile in tiles:
        inner, outer = tile.inner, tile.outer
        covered[inner.y : inner.y + inner.height, inner.x : inner.x + inner.width] += 1
        assert outer.lies_in(size)
        assert (outer.width, outer.height) == (min(48, size.width), min(48, size.height)), "one scale"
        assert outer.x in (0, inner.x - 8, size.width - 48)
        assert outer.x <= max(0, inner.x - 8)
        assert outer.x + outer.width >= min(size.width, inner.x + inner.width + 8)
        assert outer.y <= max(0, inner.y - 8)
        assert outer.y + outer.height >= min(size.height, inner.y + inner.height + 8)
    assert (covered == 1).all()
    assert len(list(tiles)) == len(tiles)


def test_a_point_belongs_to_the_tile_whose_inner_part_holds_it() -> None:
    tiles = TileGrid(Size(100, 37), 32, 8)
    for x, y in ((0, 0), (31.9, 31.9), (32, 0), (36, 99), (37, 100)):
        inner = tiles.tile_at(x, y).inner
        assert inner.x <= x <= inner.x + inner.width
        assert inner.y <= y <= inner.y + inner.height
    assert tiles.tile_at(32, 0).column == 1
    assert (tiles.tile_at(37, 100).column, tiles.tile_at(37, 100).row) == (1, 3)


def test_tiles_are_micro_sams_for_a_model_of_1024() -> None:
    tiles = make_tile_grid(Size(5000, 5000), 1024)
    assert (tiles.edge, tiles.halo) == (1024, 256)
    assert tiles.tile(1, 1).outer == Region(768, 768, 1536, 1536)


def test_bounds_that_fit_no_tile_get_a_larger_window() -> None:
    size = Size(20_000, 20_000)
    assert choose_window(size, 1024, Box(1500, 1500, 1500, 1500)) == Region(768, 768, 1536, 1536)
    assert choose_window(size, 1024, Box(800, 800, 2200, 2200)) == Region(768, 768, 1536, 1536)
    assert choose_window(size, 1024, Box(700, 800, 2200, 2200)) == Region(0, 0, 3072, 3072)
    assert choose_window(size, 1024, Box(1700, 1000, 2600, 1100)) == Region(1280, 256, 1536, 1536), (
        "between two"
    )
    assert choose_window(size, 1024, Box(0, 0, 20_000, 20_000)) == Region(0, 0, 20_000, 20_000)
    rng = np.random.default_rng(0)
    for _ in range(200):
        (x0, x1), (y0, y1) = np.sort(rng.uniform(0, 20_000, (2, 2)), axis=1)
        bounds = Box(x0, y0, x1, y1)
        window = choose_window(size, 1024, bounds)
        assert region_contains(window, bounds)
        assert window.width <= max(1536, 1536 * 2 * max(x1 - x0, y1 - y0) / 1280), "no larger than necessary"
