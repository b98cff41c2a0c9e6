"""Run lengths equal those of pycocotools, and a malformed string raises nothing but BadInput."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segserve.errors import BadInput
from segserve.masks import crop as crops
from segserve.masks import rle
from segserve.types import Bool, Crop, Size

coco: Any = pytest.importorskip("pycocotools.mask")

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=16))
sizes = st.builds(Size, st.integers(1, 30), st.integers(1, 30))


def coco_counts(mask: Bool) -> str:
    counts: bytes = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts.decode("ascii")


def rectangles(seed: int, height: int, width: int) -> Bool:
    """A few overlapping rectangles, some of the full height: runs that are long or span columns."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.bool_)
    for _ in range(rng.integers(0, 5)):
        y, x = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
        rows = slice(None) if rng.random() < 0.3 else slice(*y)
        mask[rows, slice(*x)] ^= True
    return mask


@given(masks)
def test_encode_writes_what_pycocotools_writes(mask: Bool) -> None:
    assert rle.encode(crops.from_mask(mask)) == coco_counts(mask)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(1, 400))
def test_long_runs_both_ways(seed: int, height: int, width: int) -> None:
    mask = rectangles(seed, height, width)
    counts = rle.encode(crops.from_mask(mask))
    assert counts == coco_counts(mask)
    assert np.array_equal(rle.decode(counts, Size(height, width)), mask)


@given(masks, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_encode_of_a_crop_is_that_of_its_mask(pixels: Bool, x: int, y: int, right: int, below: int) -> None:
    height, width = pixels.shape
    crop = Crop(pixels, x, y, Size(y + height + below, x + width + right))
    assert rle.encode(crop) == coco_counts(crops.to_mask(crop))


@given(masks)
def test_decode_reads_what_pycocotools_writes(mask: Bool) -> None:
    assert np.array_equal(rle.decode(coco_counts(mask), Size(*mask.shape)), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
@given(masks)
def test_pycocotools_reads_what_encode_writes(mask: Bool) -> None:
    decoded = coco.decode({"size": list(mask.shape), "counts": rle.encode(crops.from_mask(mask))})
    assert np.array_equal(decoded.astype(np.bool_), mask)


@pytest.mark.parametrize("value", [False, True])
def test_uniform_masks_of_many_pixels(value: bool) -> None:
    mask = np.full((3000, 2000), value)
    counts = rle.encode(crops.from_mask(mask))
    assert counts == coco_counts(mask)
    assert (rle.decode(counts, Size(3000, 2000)) == value).all()


def test_runs_of_length_0_are_read() -> None:
    # 2 zeros, 1 one, 0 zeros, 1 one (stored as 1 - 1), 0 zeros (stored as 0 - 0)
    assert rle.decode("21000", Size(2, 2)).T.ravel().tolist() == [False, False, True, True]


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=60), sizes)
def test_any_ascii_is_a_mask_or_bad_input(counts: str, size: Size) -> None:
    check_accepted_or_refused(counts, size)


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=60), sizes)
def test_any_legal_characters_are_a_mask_or_bad_input(counts: str, size: Size) -> None:
    check_accepted_or_refused(counts, size)


@settings(max_examples=300, deadline=None)
@given(masks, st.data())
def test_a_changed_character_is_a_mask_or_bad_input(mask: Bool, data: st.DataObject) -> None:
    counts = coco_counts(mask)
    at = data.draw(st.integers(0, len(counts) - 1))
    other = data.draw(st.characters(min_codepoint=48, max_codepoint=111))
    check_accepted_or_refused(counts[:at] + other + counts[at + 1 :], Size(*mask.shape))


def check_accepted_or_refused(counts: str, size: Size) -> None:
    """An accepted string decodes to the same mask after it was encoded again; any other raises BadInput."""
    try:
        mask = rle.decode(counts, size)
    except BadInput:
        return
    assert mask.shape == (size.height, size.width)
    assert np.array_equal(rle.decode(rle.encode(crops.from_mask(mask)), size), mask)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ("", "empty"),
        ("é", "not ASCII"),
        ("\ud800", "not ASCII"),
        ("4 ", "not between"),
        ("p", "not between"),
        ("4\n", "not between"),
        ("P", "middle of a number"),
        ("4P", "middle of a number"),
        ("P" * 8 + "0", "too many characters"),
        ("O", "is negative"),
        ("2200N", "is negative"),
        ("oooooooO", "is negative"),
        ("oooooooO" + "oooooo1", "longer than the mask"),
        ("3", "do not add up to 4"),
        ("41", "do not add up to 4"),
        ("5", "longer than the mask"),
        ("4" + "0" * 30, "more characters"),
    ],
)
def test_malformed_counts_are_named(counts: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as caught:
        rle.decode(counts, Size(2, 2), field="prompts.0.mask")
    assert caught.value.field == "prompts.0.mask"
    assert "2 x 2" in caught.value.remedy


@settings(max_examples=100, deadline=None)
@given(sizes, st.integers(0, 2**32))
def test_the_bound_on_characters_admits_the_busiest_masks(size: Size, seed: int) -> None:
    mask = np.random.default_rng(seed).random((size.height, size.width)) < 0.5
    assert np.array_equal(rle.decode(coco_counts(mask), size), mask)
