"""Of overlapping masks stay those that an annotator keeps, in reading order."""

import numpy as np

from segserve.automatic.select_objects import select_objects, sort_objects
from segserve.masks.crop import from_mask, to_mask
from segserve.types import SegmentedObject, Size

SIZE = Size(40, 60)


def draw(*boxes: tuple[int, int, int, int], score: float | None = 0.9) -> SegmentedObject:
    """Return an object of rectangles (y0, x0, y1, x1)."""
    mask = np.zeros((SIZE.height, SIZE.width), np.bool_)
    for y0, x0, y1, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return SegmentedObject(from_mask(mask), score)


def masks_of(objects: list[SegmentedObject]) -> list[np.ndarray]:
    return [to_mask(item.crop) for item in objects]


def expect(objects: list[SegmentedObject], kept: list[SegmentedObject]) -> None:
    found = masks_of(select_objects(objects, SIZE))
    assert len(found) == len(kept)
    for mask, expected in zip(found, masks_of(kept), strict=True):
        assert np.array_equal(mask, expected)


TOP, LEFT, RIGHT = draw((2, 30, 8, 40)), draw((10, 5, 20, 15)), draw((10, 25, 20, 35))


def test_they_come_in_reading_order_whatever_their_scores() -> None:
    better = draw((10, 25, 20, 35), score=0.99)
    expect([better, LEFT, TOP], [TOP, LEFT, better])
    one_line = [draw((3, 10, 5, 12), (1, 30, 6, 34)), draw((1, 20, 4, 24))]
    assert sort_objects(one_line) == [one_line[1], one_line[0]], "the first pixel counts, not the box"


def test_the_background_is_no_object() -> None:
    everything = draw((0, 0, 40, 60), score=0.99)
    expect([everything, LEFT], [LEFT])
    frame = draw((0, 0, 3, 60), (37, 0, 40, 60), (0, 0, 40, 3), (0, 57, 40, 60))
    expect([frame], [frame])
    half = draw((0, 0, 40, 40))
    expect([half], [half])


def test_a_union_of_others_goes_and_what_lies_on_another_stays() -> None:
    union = draw((10, 5, 20, 15), (10, 25, 20, 35), score=0.99)
    expect([union, LEFT, RIGHT], [LEFT, RIGHT])
    cell, nucleus = draw((5, 5, 35, 35)), draw((10, 10, 20, 20))
    expect([nucleus, cell], [cell, nucleus])


def test_of_two_opinions_on_one_object_the_better_scored_stays() -> None:
    for whole, part in ((0.9, 0.8), (0.8, 0.9)):
        large, small = draw((5, 5, 25, 25), score=whole), draw((5, 5, 25, 20), score=part)
        expect([large, small], [large if whole > part else small])


def test_specks_go_and_large_parts_stay() -> None:
    expect([draw((10, 5, 20, 15), (30, 50, 32, 52))], [LEFT])
    parts = draw((10, 5, 20, 15), (10, 25, 20, 35))
    expect([parts], [parts])


def test_scores_end_at_1() -> None:
    scores = [item.score for item in select_objects([draw((1, 1, 9, 9), score=1.02)], SIZE)]
    assert scores == [1.0]
    assert select_objects([], SIZE) == []
