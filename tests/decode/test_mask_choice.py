"""Which masks are answered: by score, or by SAM 2's stability rule."""

import numpy as np

from segserve.decode.mask_choice import choose_masks, find_usable, is_stable
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import ModelKind
from segserve.types import Select, Size

SHARP = np.where(np.arange(100).reshape(10, 10) < 50, np.float32(5), np.float32(-5))
USABLE = np.ones(4, np.bool_)
BLURRED = np.linspace(-0.06, 0.06, 100, dtype=np.float32).reshape(10, 10)


def test_stability_is_sam2s() -> None:
    assert is_stable(SHARP)
    assert not is_stable(BLURRED)
    assert is_stable(np.full((4, 4), -9, np.float32)), "sam2 counts an empty mask as stable"


def test_sam2_takes_the_best_candidate_where_the_single_mask_is_unstable() -> None:
    scores = np.array([0.9, 0.2, 0.8, 0.3], np.float32)
    for single, expected in ((SHARP, [0]), (BLURRED, [2])):
        logits = np.stack([single, SHARP, SHARP, SHARP])
        assert (
            choose_masks(logits, scores, USABLE[: len(scores)], [0, 1, 2, 3], ModelKind.SAM2, Select.BEST)
            == expected
        )


def test_sam_is_chosen_by_score() -> None:
    logits, scores = np.stack([SHARP] * 3), np.array([0.2, 0.8, 0.3], np.float32)
    assert choose_masks(logits, scores, USABLE[: len(scores)], [1, 2, 3], ModelKind.SAM, Select.BEST) == [1]
    assert choose_masks(logits, scores, USABLE[: len(scores)], [1, 2, 3], ModelKind.SAM, Select.ALL) == [
        0,
        1,
        2,
    ]


def test_an_empty_mask_and_one_of_the_whole_image_are_the_best_only_if_there_is_no_other() -> None:
    empty, whole = np.full((10, 10), -5, np.float32), np.full((10, 10), 5, np.float32)
    geometry = LogitsGeometry.padded(Size(40, 40), 40, 10)
    scores = np.array([0.9, 0.8, 0.3], np.float32)
    for masks, expected in (
        ((empty, whole, SHARP), 2),
        ((empty, SHARP, whole), 1),
        ((empty, whole, empty), 0),
    ):
        logits = np.stack(masks)
        usable = find_usable(logits > 0, geometry)
        assert choose_masks(logits, scores, usable, [1, 2, 3], ModelKind.SAM, Select.BEST) == [expected]


def test_the_padding_is_not_of_the_image() -> None:
    geometry = LogitsGeometry.padded(Size(20, 40), 40, 10)  # the upper half of the square
    logits = np.full((1, 10, 10), -5, np.float32)
    logits[:, :5] = 5
    assert not find_usable(logits > 0, geometry).any()
    logits[:, :1] = -5
    assert find_usable(logits > 0, geometry).all()
    logits[:, :5], logits[:, 5:] = -5, 5
    assert not find_usable(logits > 0, geometry).any(), "nothing but padding"
