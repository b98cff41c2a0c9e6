"""Overlays: an object has the same colour everywhere."""

import numpy as np

from segserve.masks import label_map
from segserve.rendering.overlay import draw_objects
from segserve.types import Size
from tests.rendering.drawn_lines import draw_disc, index_lines, make_line

SIZE = Size(40, 60)
GREY = np.full((40, 60, 3), 100, np.uint8)


def make_objects(masks: dict[int, np.ndarray]) -> list:
    results = index_lines(make_line(0, masks))
    objects = results.get_objects(0)
    results.close()
    return objects


def test_an_object_has_an_outline_of_two_pixels_and_a_faint_fill() -> None:
    square = np.zeros((40, 60), np.bool_)
    square[10:30, 20:40] = True
    drawn = draw_objects(GREY, make_objects({3: square}))
    colour = label_map.make_colour_table([3])[1]
    assert np.array_equal(drawn[~square], GREY[~square])
    outline = square.copy()
    outline[12:28, 22:38] = False
    assert (drawn[outline] == colour).all()
    inside = drawn[12:28, 22:38].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert not np.array_equal(inside[0], colour)
    assert not np.array_equal(inside[0], GREY[0, 0])
    assert (np.sign(inside[0].astype(int) - 100) == np.sign(colour.astype(int) - 100)).all()


def test_an_object_keeps_its_colour_beside_any_other() -> None:
    left, right = draw_disc(SIZE, 15, 20, 10), draw_disc(SIZE, 45, 20, 10)
    alone = draw_objects(GREY, make_objects({1_000_000_007: right}))
    together = draw_objects(GREY, make_objects({4: left, 1_000_000_007: right}))
    assert np.array_equal(alone[right], together[right])
    assert not np.array_equal(alone[left], together[left])


def test_overlays_have_the_colours_of_label_maps() -> None:
    mask = draw_disc(SIZE, 30, 20, 12)
    by_map = label_map.draw_overlay(GREY, mask * np.uint16(5), width=2)
    assert np.array_equal(draw_objects(GREY, make_objects({5: mask})), by_map)


def test_a_frame_without_objects_stays_as_it_is() -> None:
    assert np.array_equal(draw_objects(GREY, []), GREY)
