"""Which masks are answered: by score, stability and the prompt, or by SAM 2's stability rule."""

from dataclasses import replace

import numpy as np
import pytest

from segserve.decode.decode_prompt import finish_mask
from segserve.decode.mask_choice import (
    DecodedMask,
    choose_masks,
    compute_box_iou,
    compute_stability,
    find_best,
    is_stable,
)
from segserve.masks.clean import Marks
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.types import Float32, Select, Size

SHARP = np.where(np.arange(100).reshape(10, 10) < 50, np.float32(5), np.float32(-5))
BLURRED = np.linspace(-0.06, 0.06, 100, dtype=np.float32).reshape(10, 10)
WHOLE_IMAGE = LogitsGeometry.padded(Size(40, 40), 40, 10)
CLICK = Marks(np.array([[2, 2]], np.float32))
CLICKS = replace(CLICK, negative=np.array([[8, 8]], np.float32))
BOX = Marks(box=(0, 0, 10, 5))


def manifest(kind: ModelKind) -> PromptableManifest:
    return PromptableManifest(
        name="m",
        kind=kind,
        architecture="a",
        preprocess=PreprocessEntry(input_size=64, mean=(0, 0, 0), std=(1, 1, 1), resize="pad"),
        dims=Dims(embedding=(1, 4, 4), low=10),
        files={},
    )


def masks(
    logits: list[Float32],
    scores: list[float],
    tokens: tuple[int, ...] = (1, 2, 3),
    *,
    marks: Marks | None = CLICK,
    kind: ModelKind = ModelKind.SAM,
    geometry: LogitsGeometry = WHOLE_IMAGE,
) -> list[DecodedMask]:
    return [
        DecodedMask(low_res, score, token, geometry, manifest(kind), marks)
        for low_res, score, token in zip(logits, scores, tokens, strict=False)
    ]


def test_an_answers_score_lies_within_0_and_1_and_a_raw_one_is_the_models() -> None:
    scores = [1.0088, 0.7, -0.01]
    finished = {
        raw: [
            finish_mask(mask, WHOLE_IMAGE, manifest(ModelKind.SAM), raw=raw).score
            for mask in masks([SHARP] * 3, scores)
        ]
        for raw in (False, True)
    }
    assert finished == {False: [1.0, 0.7, 0.0], True: scores}


def test_stability_is_sam2s() -> None:
    assert is_stable(SHARP)
    assert not is_stable(BLURRED)
    assert is_stable(np.full((4, 4), -9, np.float32)), "sam2 counts an empty mask as stable"


def test_stability_is_the_iou_of_the_masks_at_two_thresholds() -> None:
    logits = np.array([[3, 1.5, 0.5, -0.5, -1.5]], np.float32)
    assert compute_stability(logits, 0) == 2 / 4
    assert compute_stability(logits, 1) == 1 / 3
    assert compute_stability(np.full((2, 2), -9, np.float32), 0) == 0


@pytest.mark.parametrize(
    ("second", "expected"),
    [((0, 0, 2, 2), 1), ((1, 0, 3, 2), 1 / 3), ((2, 0, 4, 2), 0), ((0, 0, 4, 4), 1 / 4)],
)
def test_the_iou_of_boxes(second: tuple[float, float, float, float], expected: float) -> None:
    assert compute_box_iou((0, 0, 2, 2), second) == pytest.approx(expected)


def test_sam2_takes_the_best_candidate_where_the_single_mask_is_unstable() -> None:
    for single, expected in ((SHARP, 0), (BLURRED, 2)):
        found = masks([single, *[SHARP] * 3], [0.9, 0.2, 0.8, 0.3], (0, 1, 2, 3), kind=ModelKind.SAM2)
        assert [mask.token for mask in choose_masks(found, ModelKind.SAM2, Select.BEST)] == [expected]


@pytest.mark.parametrize("marks", [CLICK, None])
def test_of_equally_stable_masks_the_highest_score_is_best(marks: Marks | None) -> None:
    found = masks([SHARP] * 3, [0.2, 0.8, 0.3], marks=marks)
    assert [mask.token for mask in choose_masks(found, ModelKind.SAM, Select.BEST)] == [2]
    assert [mask.token for mask in choose_masks(found, ModelKind.SAM, Select.ALL)] == [1, 2, 3]


def test_a_stable_mask_goes_before_an_unstable_one_of_a_slightly_higher_score() -> None:
    for scores, expected in (((0.8, 0.7), 2), ((0.99, 0.7), 1)):
        assert find_best(masks([BLURRED, SHARP], list(scores))).token == expected
    assert find_best(masks([BLURRED, SHARP], [0.8, 0.7], marks=None)).token == 1, "by score alone"
    assert find_best(masks([BLURRED, SHARP], [0.8, 0.7], kind=ModelKind.SAM2)).token == 1


def test_a_mask_that_fills_the_box_goes_before_one_that_does_not() -> None:
    part = np.where(np.arange(10) < 2, SHARP, np.float32(-5))
    assert find_best(masks([part, SHARP], [0.9, 0.7], marks=BOX)).token == 2
    assert find_best(masks([part, SHARP], [0.9, 0.7], marks=CLICK)).token == 1


def test_of_several_clicks_the_single_mask_is_preferred() -> None:
    for scores, expected in (((0.6, 0.7), 0), ((0.5, 0.7), 1)):
        assert find_best(masks([SHARP, SHARP], list(scores), (0, 1), marks=CLICKS)).token == expected


def test_candidates_are_needed_only_where_one_may_be_better() -> None:
    def may_be_beaten(logits: Float32, marks: Marks, best_score: float) -> bool:
        return masks([logits], [0.8], (0,), marks=marks)[0].may_be_beaten(best_score)

    assert not may_be_beaten(SHARP, CLICKS, 0.94)
    assert may_be_beaten(SHARP, CLICKS, 0.96)
    assert may_be_beaten(BLURRED, CLICKS, 0.8)
    assert may_be_beaten(np.full((10, 10), 5, np.float32), CLICKS, 0.1), "the whole image"
    assert not may_be_beaten(SHARP, BOX, 0.99)
    assert may_be_beaten(SHARP, Marks(box=(0, 0, 10, 10)), 0.1)
    assert not may_be_beaten(BLURRED, replace(CLICKS, prior=SHARP > 0), 0.99), "it refines a mask"


def test_an_empty_mask_and_one_of_the_whole_image_are_the_best_only_if_there_is_no_other() -> None:
    empty, whole = np.full((10, 10), -5, np.float32), np.full((10, 10), 5, np.float32)
    for logits, expected in (
        ([empty, whole, SHARP], 3),
        ([empty, SHARP, whole], 2),
        ([empty, empty, empty], 1),
    ):
        assert find_best(masks(logits, [0.9, 0.8, 0.3])).token == expected


def test_the_padding_is_not_of_the_image() -> None:
    geometry = LogitsGeometry.padded(Size(20, 40), 40, 10)  # the upper half of the square
    upper, lower = np.full((10, 10), -5, np.float32), np.full((10, 10), 5, np.float32)
    upper[:5], lower[:5] = 5, -5
    most = upper.copy()
    most[:, :1] = -5
    found = masks([upper, lower, most], [0.5] * 3, geometry=geometry)
    assert [mask.is_usable for mask in found] == [False, False, True]
