"""Where an object went: drawn pixels and a drawn embedding, without a model."""

import numpy as np
import pytest

from segserve.decode.object_descriptor import normalize_cells
from segserve.masks import crop
from segserve.projection.object_search import CellGrid, describe, find_move, move_crop
from segserve.types import Bool, Crop, Float32, Size, UInt8

HEIGHT, WIDTH, CELL = 288, 384, 12
SIZE = Size(HEIGHT, WIDTH)
GRID = CellGrid.from_image(SIZE, SIZE, WIDTH, WIDTH // CELL)
TEXTURE = np.random.default_rng(1).integers(0, 90, (60, 24, 3)).astype(np.uint8)
REACH = (60.0, 60.0)


def draw(*places: tuple[int, int], noise: int = 0) -> tuple[UInt8, Float32, list[Bool]]:
    """Return the pixels of textured objects at places (x, y) on grey, an embedding that knows them from the grey, and
    their masks."""
    rng = np.random.default_rng(noise)
    pixels = rng.normal(120, 3, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    field = np.random.default_rng(2).normal(0, 1, (32, WIDTH // CELL, WIDTH // CELL))
    masks = []
    for x, y in places:
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[y : y + 60, x : x + 24] = True
        pixels[mask] = TEXTURE.reshape(-1, 3)
        covered = mask.reshape(HEIGHT // CELL, CELL, WIDTH // CELL, CELL).mean((1, 3))
        field[:, : HEIGHT // CELL] *= 1 - covered
        field[:, : HEIGHT // CELL] += 3 * np.random.default_rng(3).normal(0, 1, (32, 1, 1)) * covered
        masks.append(mask)
    return pixels, normalize_cells(field.astype(np.float32)), masks


def at(mask: Bool) -> Crop:
    return crop.from_mask(mask)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (7, -3), (31, 5), (-50, 22)])
def test_a_move_is_found_to_the_pixel(dx: int, dy: int) -> None:
    pixels, field, [mask] = draw((150, 100))
    looks = describe(pixels, field, GRID, at(mask))
    pixels, field, _ = draw((150 + dx, 100 + dy), noise=1)
    move = find_move(looks, pixels, field, GRID, (0, 0), REACH)
    assert (abs(move.dx - dx) <= 1, abs(move.dy - dy) <= 1) == (True, True), move


def test_of_two_alike_the_one_nearer_to_the_expected_place_is_found() -> None:
    pixels, field, [mask] = draw((150, 100))
    looks = describe(pixels, field, GRID, at(mask))
    pixels, field, _ = draw((115, 100), (185, 100), noise=1)
    assert abs(find_move(looks, pixels, field, GRID, (20, 0), REACH).dx - 35) <= 1
    assert abs(find_move(looks, pixels, field, GRID, (-20, 0), REACH).dx + 35) <= 1


def test_an_object_of_many_cells_is_described_by_some_of_them() -> None:
    pixels, field, _ = draw()
    looks = describe(pixels, field, GRID, at(np.ones((HEIGHT, WIDTH), np.bool_)))
    assert len(looks.cells) <= 32
    assert max(looks.patch.shape) <= 64
    move = find_move(looks, pixels, field, GRID, (0, 0), REACH)
    assert (move.dx, move.dy) == (0, 0)


def test_an_object_at_the_edge_is_found_where_half_of_it_is_left() -> None:
    pixels, field, [mask] = draw((340, 100))
    looks = describe(pixels, field, GRID, at(mask))
    wide, field, _ = draw((WIDTH - 24, 100), noise=1)
    moved = np.full_like(wide, 120)
    moved[:, 10:] = wide[:, :-10]
    move = find_move(looks, moved, field, GRID, (20, 0), REACH)
    assert abs(move.dx - (WIDTH - 14 - 340)) <= 8
    assert crop.bounding_box(move_crop(at(mask), move.dx, move.dy))[2] == WIDTH


def test_masks_are_moved_and_cut_off() -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[2:8, 20:28] = True
    moved = crop.to_mask(move_crop(crop.from_mask(mask), 5, -4))
    expected = np.zeros_like(mask)
    expected[0:4, 25:30] = True
    assert np.array_equal(moved, expected)
    assert not move_crop(crop.from_mask(mask), 40, 0).pixels.any()
