"""Objects drawn over frames: the same colour for the same object, everywhere."""

import numpy as np

from segserve.masks import label_map
from segserve.rendering.overlay import draw_overlay
from segserve.types import Size
from tests.rendering.made import disc, line, lines_of

SIZE = Size(40, 60)
GREY = np.full((40, 60, 3), 100, np.uint8)


def entries(masks: dict[int, np.ndarray]) -> list:
    lines = lines_of(line(0, masks))
    found = lines.get_objects(0)
    lines.close()
    return found


def test_an_outline_of_two_pixels_and_a_faint_fill() -> None:
    square = np.zeros((40, 60), np.bool_)
    square[10:30, 20:40] = True
    found = draw_overlay(GREY, entries({3: square}))
    colour = label_map.make_colour_table([3])[1]
    assert np.array_equal(found[~square], GREY[~square])
    outline = square.copy()
    outline[12:28, 22:38] = False
    assert (found[outline] == colour).all()
    inside = found[12:28, 22:38].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert not np.array_equal(inside[0], colour)
    assert not np.array_equal(inside[0], GREY[0, 0])
    assert (np.sign(inside[0].astype(int) - 100) == np.sign(colour.astype(int) - 100)).all()


def test_an_object_keeps_its_colour_whoever_is_with_it() -> None:
    left, right = disc(SIZE, 15, 20, 10), disc(SIZE, 45, 20, 10)
    alone = draw_overlay(GREY, entries({1_000_000_007: right}))
    together = draw_overlay(GREY, entries({4: left, 1_000_000_007: right}))
    assert np.array_equal(alone[right], together[right])
    assert not np.array_equal(alone[left], together[left])


def test_colours_are_those_of_label_maps() -> None:
    mask = disc(SIZE, 30, 20, 12)
    by_map = label_map.draw_overlay(GREY, mask * np.uint16(5), width=2)
    assert np.array_equal(draw_overlay(GREY, entries({5: mask})), by_map)


def test_a_frame_without_objects_stays() -> None:
    assert np.array_equal(draw_overlay(GREY, []), GREY)
