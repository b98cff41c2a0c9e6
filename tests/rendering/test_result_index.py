"""Result lines are found by frame, in whatever order they came."""

import numpy as np
import pytest

from segserve.errors import TooLarge
from segserve.types import Size
from tests.rendering.drawn_lines import draw_disc, index_lines, make_line

SIZE = Size(30, 40)
LARGE, SMALL = draw_disc(SIZE, 20, 15, 12), draw_disc(SIZE, 20, 15, 4)
EMPTY = np.zeros((30, 40), np.bool_)


def test_frames_may_come_backwards_and_objects_in_lines_of_their_own() -> None:
    results = index_lines(
        *(make_line(frame, {7: draw_disc(SIZE, frame, 10, 3)}) for frame in (5, 4, 3)),
        *(make_line(frame, {2: draw_disc(SIZE, 30, frame, 3)}) for frame in (3, 4)),
    )
    assert results.frame_numbers == [3, 4, 5]
    assert [each["object_id"] for each in results.get_objects(3)] == [2, 7]
    labels = results.build_label_map(4, SIZE)
    assert np.array_equal(labels == 7, draw_disc(SIZE, 4, 10, 3))
    assert np.array_equal(labels == 2, draw_disc(SIZE, 30, 4, 3))
    assert not results.get_objects(9)
    results.close()


def test_the_last_line_of_an_object_counts_and_may_be_empty() -> None:
    results = index_lines(
        make_line(0, {1: LARGE, 2: SMALL}),
        make_line(1, {1: LARGE}),
        make_line(0, {1: EMPTY}),
        make_line(1, {1: SMALL}),
    )
    assert np.array_equal(results.build_label_map(0, SIZE), 2 * SMALL)
    assert np.array_equal(results.build_label_map(1, SIZE), SMALL)
    results.add_lines([make_line(2, {1: EMPTY})])
    assert results.frame_numbers == [0, 1, 2]
    assert results.frames_with_objects() == [0, 1]
    results.close()


def test_the_smaller_of_two_objects_is_on_top_whatever_their_ids() -> None:
    for masks in ({1: LARGE, 2: SMALL}, {2: LARGE, 1: SMALL}):
        results = index_lines(make_line(0, masks))
        labels = results.build_label_map(0, SIZE)
        for object_id, mask in masks.items():
            assert np.array_equal(labels == object_id, mask & ~SMALL if mask is LARGE else mask)
        results.close()


def test_label_maps_have_the_bits_that_the_ids_need() -> None:
    for object_id, dtype in ((65_535, np.uint16), (65_536, np.uint32)):
        results = index_lines(make_line(0, {object_id: SMALL}))
        assert results.build_label_map(0, SIZE).dtype == dtype
        assert results.build_label_map(0, SIZE).max() == object_id
        results.close()
    results = index_lines(make_line(0, {1 << 32: SMALL}))
    with pytest.raises(TooLarge, match="object_ids up to 4294967296"):
        results.build_label_map(0, SIZE)
    results.close()


def test_lines_without_objects_are_skipped() -> None:
    results = index_lines(b'{"frame": 3, "error": {"type": "x"}}', make_line(1, {}, size=SIZE))
    assert results.frame_numbers == [1]
    assert results.size == SIZE
    results.close()
