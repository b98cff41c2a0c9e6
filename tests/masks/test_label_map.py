"""Label maps: converted from and to masks, encoded, and drawn."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from segserve.errors import TooLarge
from segserve.masks import crop, label_map, rle
from segserve.masks.crop import from_mask, to_mask
from segserve.types import Size

maps = arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4))


def square(y: int, x: int, edge: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.bool_)
    mask[y : y + edge, x : x + edge] = True
    return mask


@given(maps)
def test_a_map_split_into_masks_and_joined_again_is_the_same_map(values: np.ndarray) -> None:
    _, compact = np.unique(values, return_inverse=True)
    dense = compact.reshape(values.shape) + int(values.min() > 0)  # ids 1 to n, without gaps
    masks = label_map.to_crops(dense.astype(np.int32))
    np.testing.assert_array_equal(label_map.from_crops(masks, Size(*values.shape)), dense)


def test_a_small_object_on_a_large_one_stays_visible_whatever_their_order() -> None:
    small, large = square(5, 5, 3), square(2, 2, 12)
    for first, second in ((small, large), (large, small)):
        painted = label_map.from_crops([from_mask(first), from_mask(second)], Size(20, 30))
        ids = {int(painted[6, 6]), int(painted[3, 3])}
        assert ids == {1, 2}


def test_ids_that_do_not_occur_are_skipped() -> None:
    values = np.where(square(0, 0, 4), 7, 0)
    [mask] = label_map.to_crops(values)
    np.testing.assert_array_equal(to_mask(mask), values == 7)


def test_files_hold_the_map_exactly() -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(label_map.encode_png(values)))), values)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(label_map.encode_tiff(values))), values)
    np.testing.assert_array_equal(np.load(io.BytesIO(label_map.encode_npy(values))), values)


def test_a_png_refuses_ids_it_cannot_hold() -> None:
    values = np.array([[0, 70_000]], np.uint32)
    with pytest.raises(TooLarge, match="70000"):
        label_map.encode_png(values)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(label_map.encode_tiff(values))), values)


def test_an_overlay_leaves_the_background_and_outlines_each_object() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    values = label_map.from_crops([from_mask(square(2, 2, 6)), from_mask(square(10, 20, 6))], Size(20, 30))
    drawn = label_map.draw_overlay(image, values)
    assert (drawn[values == 0] == 100).all()
    table = label_map.make_colour_table([1, 2])
    assert (drawn[2, 2] == table[1]).all()
    assert (drawn[10, 20] == table[2]).all()
    assert (drawn[5, 5] != 100).any()  # tinted inside


def test_a_huge_id_takes_no_memory_for_the_ids_below_it() -> None:
    values = np.zeros((4, 4), np.uint32)
    values[1, 1], values[2, 2:] = 2**31, 7
    assert [to_mask(each).sum() for each in label_map.to_crops(values)] == [2, 1]


def test_a_map_from_run_lengths_equals_the_map_from_masks() -> None:
    large, small = np.zeros((30, 50), np.bool_), np.zeros((30, 50), np.bool_)
    large[:, 5:40] = True  # its runs go from column to column
    small[10:20, 30:45] = True
    masks = [crop.from_mask(small), crop.from_mask(large)]
    objects = [(object_id, rle.encode(mask), crop.area(mask)) for object_id, mask in enumerate(masks, 1)]
    values = label_map.from_rle(objects, Size(30, 50), np.uint16)
    assert np.array_equal(values, label_map.from_crops(masks, Size(30, 50)))


def test_outlines_have_the_requested_width() -> None:
    values = np.zeros((30, 30), np.uint16)
    values[5:25, 5:15], values[5:25, 15:25] = 1, 2
    for width in (1, 2, 3):
        inner = np.zeros((30, 30), np.bool_)
        for left in (5, 15):
            inner[5 + width : 25 - width, left + width : left + 10 - width] = True
        assert np.array_equal(label_map.find_outlines(values, width), (values > 0) & ~inner)


def test_crumbs_join_the_neighbour_that_they_touch_most_or_go() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:12, 2:12] = 1
    labels[2:12, 12:20] = 2
    labels[4:6, 15:17] = 1  # cut off from 1, inside 2
    labels[16, 25:27] = 1  # cut off, on background
    labels[14:19, 2:12] = 1  # cut off, but large
    joined = label_map.join_crumbs(labels)
    assert (joined[4:6, 15:17] == 2).all()
    assert not joined[16, 25:27].any()
    assert (joined[14:19, 2:12] == 1).all()
    changed = joined != labels
    assert changed.sum() == 6
