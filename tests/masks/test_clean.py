"""Cleaning: parts that nothing marks go, small holes are filled, the outline of what is kept stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from segserve.masks import crop
from segserve.masks.clean import MAX_HOLE_SHARE, Marks, clean_logits
from segserve.masks.upscale import LogitsGeometry, upscale_mask
from segserve.types import Bool, Float32, Size

GEOMETRY = LogitsGeometry.padded(Size(300, 400), 256, 64)


def draw(*boxes: tuple[int, int, int, int], holes: tuple[tuple[int, int, int, int], ...] = ()) -> Float32:
    """Return logits [64, 64]: 3 in the boxes (x0, y0, x1, y1), -2 in the holes and elsewhere."""
    logits = np.full((64, 64), -2, np.float32)
    for x0, y0, x1, y1 in boxes:
        logits[y0:y1, x0:x1] = 3
    for x0, y0, x1, y1 in holes:
        logits[y0:y1, x0:x1] = -2
    return logits


def points(*xy: tuple[float, float]) -> Float32:
    return np.array(xy, np.float32).reshape(-1, 2)


OBJECT, OTHER, SPECK = (10, 10, 20, 20), (30, 10, 45, 30), (50, 40, 52, 42)


def test_parts_that_nothing_marks_are_removed() -> None:
    cleaned = clean_logits(draw(OBJECT, OTHER, SPECK), 0, Marks(points((15, 15))))
    assert np.array_equal(cleaned.logits > 0, draw(OBJECT) > 0)
    assert (cleaned.removed_parts, cleaned.filled_holes) == (2, 0)


def test_every_marked_part_is_kept() -> None:
    cleaned = clean_logits(draw(OBJECT, OTHER, SPECK), 0, Marks(points((15, 15), (51.5, 41))))
    assert np.array_equal(cleaned.logits > 0, draw(OBJECT, SPECK) > 0)


def test_a_click_just_beside_a_part_marks_it_and_one_far_away_marks_none() -> None:
    logits = draw(OTHER, SPECK)
    assert clean_logits(logits, 0, Marks(points((53.5, 41)))).logits[41, 51] > 0
    far = clean_logits(logits, 0, Marks(points((60, 60)))).logits > 0
    assert np.array_equal(far, draw(OTHER) > 0), "the largest part is left"


def test_without_points_the_part_in_the_box_is_kept() -> None:
    logits = draw(OBJECT, OTHER)
    assert np.array_equal(clean_logits(logits, 0, Marks(box=(8, 8, 22, 22))).logits > 0, draw(OBJECT) > 0)
    outside = clean_logits(logits, 0, Marks(box=(50, 50, 60, 60)))
    assert np.array_equal(outside.logits > 0, draw(OTHER) > 0), "never an empty mask"


def test_an_object_in_two_parts_stays_in_two_parts() -> None:
    logits = draw(OBJECT, OTHER, SPECK)
    cleaned = clean_logits(logits, 0, Marks(prior=draw((9, 9, 21, 21), (30, 10, 40, 30)) > 0))
    assert np.array_equal(cleaned.logits > 0, draw(OBJECT, OTHER) > 0)
    added = clean_logits(logits, 0, Marks(points((51, 41)), prior=draw(OBJECT) > 0))
    assert np.array_equal(added.logits > 0, draw(OBJECT, SPECK) > 0), "a new point adds its part"


def test_small_holes_are_filled_unless_they_are_marked() -> None:
    hole, large = (32, 12, 34, 14), (36, 14, 42, 24)
    logits = draw(OTHER, holes=(hole, large))
    cleaned = clean_logits(logits, 0, Marks())
    assert np.array_equal(cleaned.logits > 0, draw(OTHER, holes=(large,)) > 0)
    assert (cleaned.removed_parts, cleaned.filled_holes) == (0, 1)
    assert np.array_equal(clean_logits(logits, 0, Marks(negative=points((33, 13)))).logits, logits)


def test_the_size_of_a_hole_is_measured_against_the_object() -> None:
    whole = draw((0, 0, 50, 50))
    for side, filled in ((7, True), (8, False)):  # 49 and 64 of 2500 pixels
        assert (side**2 <= MAX_HOLE_SHARE * (2500 - side**2)) is filled
        cleaned = clean_logits(draw((0, 0, 50, 50), holes=((9, 9, 9 + side, 9 + side),)), 0, Marks())
        assert np.array_equal(cleaned.logits > 0, whole > 0) is filled


def test_a_bay_is_no_hole() -> None:
    logits = draw(OBJECT, holes=((10, 14, 12, 15),))
    assert clean_logits(logits, 0, Marks()).logits is logits


def test_parts_that_touch_at_a_corner_are_two() -> None:
    cleaned = clean_logits(draw(OBJECT, (20, 20, 22, 22)), 0, Marks(points((15, 15))))
    assert np.array_equal(cleaned.logits > 0, draw(OBJECT) > 0)


def test_the_threshold_counts() -> None:
    logits = draw(OBJECT, SPECK) + np.float32(1.5)
    cleaned = clean_logits(logits, 1.5, Marks())
    assert np.array_equal(cleaned.logits > 1.5, draw(OBJECT) > 0)
    assert (cleaned.logits[40:42, 50:52] == np.nextafter(np.float32(-1.5), np.float32(-np.inf))).all()


def test_an_empty_mask_stays_empty() -> None:
    logits = draw()
    assert clean_logits(logits, 0, Marks(points((5, 5)), box=(0, 0, 9, 9))).logits is logits


@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.0, 0.4]))
def test_random_masks_become_their_marked_part(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    logits = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 2).astype(np.float32)
    logits = logits / logits.std() + np.float32(threshold)
    before: Bool = logits > threshold
    x, y = (int(v) for v in rng.integers(0, 64, 2))
    cleaned = clean_logits(logits, threshold, Marks(points((x + 0.5, y + 0.5)))).logits > threshold
    assert ndimage.label(cleaned)[1] == 1
    labels = ndimage.label(before)[0]
    if labels[y, x]:
        part = labels == labels[y, x]
        assert not (part & ~cleaned).any()
        filled = ndimage.binary_fill_holes(part, np.ones((3, 3)))
        assert not (cleaned & ~(part | filled)).any()


@pytest.mark.parametrize("far", [2, 3, 6])
def test_the_outline_of_the_kept_part_does_not_move(far: int) -> None:
    """A removed part and a kept one have a logit of background between them, so no output pixel reads both."""
    alone, beside = draw((10, 10, 30, 30)), draw((10, 10, 30, 30), (30 + far, 12, 33 + far, 20))
    cleaned = clean_logits(beside, 0, Marks(points((20, 20)))).logits
    found, expected = (crop.to_mask(upscale_mask(logits, GEOMETRY)) for logits in (cleaned, alone))
    assert np.array_equal(found, expected)
