"""Result lines are found by frame, whatever order they came in."""

import numpy as np
import pytest

from segserve.errors import TooLarge
from segserve.types import Size
from tests.rendering.made import disc, line, lines_of

SIZE = Size(30, 40)
FULL, SMALL = disc(SIZE, 20, 15, 12), disc(SIZE, 20, 15, 4)
NONE = np.zeros((30, 40), np.bool_)


def test_frames_backwards_and_objects_one_after_another() -> None:
    lines = lines_of(
        *(line(frame, {7: disc(SIZE, frame, 10, 3)}) for frame in (5, 4, 3)),
        *(line(frame, {2: disc(SIZE, 30, frame, 3)}) for frame in (3, 4)),
    )
    assert lines.frame_numbers == [3, 4, 5]
    assert [each["object_id"] for each in lines.get_objects(3)] == [2, 7]
    found = lines.build_label_map(4, SIZE)
    assert np.array_equal(found == 7, disc(SIZE, 4, 10, 3))
    assert np.array_equal(found == 2, disc(SIZE, 30, 4, 3))
    assert not lines.get_objects(9)
    lines.close()


def test_the_last_entry_of_an_object_counts_and_may_be_empty() -> None:
    lines = lines_of(
        line(0, {1: FULL, 2: SMALL}), line(1, {1: FULL}), line(0, {1: NONE}), line(1, {1: SMALL})
    )
    assert np.array_equal(lines.build_label_map(0, SIZE), 2 * SMALL)
    assert np.array_equal(lines.build_label_map(1, SIZE), SMALL)
    lines.add_lines([line(2, {1: NONE})])
    assert lines.frame_numbers == [0, 1, 2]
    assert lines.frames_with_objects() == [0, 1]
    lines.close()


def test_the_smaller_of_two_is_on_top_whatever_their_ids() -> None:
    for masks in ({1: FULL, 2: SMALL}, {2: FULL, 1: SMALL}):
        lines = lines_of(line(0, masks))
        found = lines.build_label_map(0, SIZE)
        for object_id, mask in masks.items():
            assert np.array_equal(found == object_id, mask & ~SMALL if mask is FULL else mask)
        lines.close()


def test_maps_are_as_wide_as_the_ids_need() -> None:
    for object_id, dtype in ((65_535, np.uint16), (65_536, np.uint32)):
        lines = lines_of(line(0, {object_id: SMALL}))
        assert lines.build_label_map(0, SIZE).dtype == dtype
        assert lines.build_label_map(0, SIZE).max() == object_id
        lines.close()
    lines = lines_of(line(0, {1 << 32: SMALL}))
    with pytest.raises(TooLarge, match="object_ids up to 4294967296"):
        lines.build_label_map(0, SIZE)
    lines.close()


def test_what_is_no_frame_is_passed_over() -> None:
    lines = lines_of(b'{"frame": 3, "error": {"type": "x"}}', line(1, {}, size=SIZE))
    assert lines.frame_numbers == [1]
    assert lines.size == SIZE
    lines.close()
