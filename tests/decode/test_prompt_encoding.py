"""Encoded prompts are those of the reference predictors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segserve.decode.prompt_encoding import (
    CANDIDATE_TOKENS,
    SINGLE_TOKEN,
    encode_tokens,
    logits_geometry,
    mask_to_logits,
    scale_points,
    select_mask_tokens,
)
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.types import Box, Prompt, Select, Size


def manifest(kind: ModelKind = ModelKind.SAM, edge: int = 1024) -> PromptableManifest:
    entry = PreprocessEntry(
        input_size=edge, mean=(0, 0, 0), std=(1, 1, 1), resize="pad" if kind is ModelKind.SAM else "stretch"
    )
    dims = Dims(embedding=(256, edge // 16, edge // 16), low=edge // 4)
    return PromptableManifest(name="m", kind=kind, architecture="a", preprocess=entry, dims=dims, files={})


sides = st.integers(1, 5000)


@given(sides, sides, st.floats(0, 1), st.floats(0, 1))
def test_points_scale_as_the_predictors_scale_them(height: int, width: int, x: float, y: float) -> None:
    transforms = pytest.importorskip("segment_anything.utils.transforms")
    point = np.array([[x * width, y * height]], np.float32)
    scaled = scale_points(point, manifest(), Size(height, width))
    scale = 1024 / max(height, width)
    if min(height, width) * scale >= 0.5:  # below, the reference makes an image of no pixels
        expected = transforms.ResizeLongestSide(1024).apply_coords(point, (height, width))
        np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-4)
    stretched = scale_points(point, manifest(ModelKind.SAM2), Size(height, width))
    np.testing.assert_allclose(stretched, [[x * 1024, y * 1024]], rtol=1e-5, atol=1e-3)


POINT = Prompt(np.array([[10, 20]], np.float32), np.array([1]))
BOX = Prompt(box=Box(1, 2, 30, 40))
BOTH = Prompt(POINT.points, POINT.labels, BOX.box)


@pytest.mark.parametrize(
    ("kind", "prompt", "labels"),
    [
        (ModelKind.SAM, POINT, [1, -1]),
        (ModelKind.SAM, BOX, [2, 3]),
        (ModelKind.SAM, BOTH, [1, 2, 3]),
        (ModelKind.SAM2, POINT, [1, -1]),
        (ModelKind.SAM2, BOX, [2, 3, -1]),
        (ModelKind.SAM2, BOTH, [2, 3, 1, -1]),
        (ModelKind.SAM, Prompt(logits=np.zeros((256, 256), np.float32)), []),
    ],
)
def test_order_and_padding_are_the_predictors(kind: ModelKind, prompt: Prompt, labels: list[int]) -> None:
    coords, encoded = encode_tokens(prompt, manifest(kind), Size(100, 200))
    assert encoded.tolist() == labels
    assert coords.shape == (len(labels), 2)


def test_three_candidates_are_computed_for_a_single_positive_point() -> None:
    negative = Prompt(POINT.points, np.array([0]))
    two = Prompt(np.zeros((2, 2), np.float32), np.array([1, 1]))
    for prompt, expected in (
        (POINT, CANDIDATE_TOKENS),
        (BOX, [SINGLE_TOKEN]),
        (BOTH, [SINGLE_TOKEN]),
        (negative, [SINGLE_TOKEN]),
        (two, [SINGLE_TOKEN]),
    ):
        assert select_mask_tokens(prompt, ModelKind.SAM, None, Select.BEST) == expected
    assert select_mask_tokens(BOX, ModelKind.SAM, True, Select.ALL) == CANDIDATE_TOKENS
    assert select_mask_tokens(POINT, ModelKind.SAM, False, Select.ALL) == [SINGLE_TOKEN]
    assert select_mask_tokens(POINT, ModelKind.SAM, False, Select.FIRST) == [1]
    assert select_mask_tokens(BOX, ModelKind.SAM2, None, Select.BEST) == [SINGLE_TOKEN, *CANDIDATE_TOKENS], (
        "its stability rule needs them"
    )


def test_a_binary_mask_becomes_logits_of_its_probability() -> None:
    mask = np.zeros((300, 600), bool)
    mask[100:200, 200:400] = True
    logits = mask_to_logits(mask, manifest())
    inside = np.log(0.999 / 0.001)
    assert logits.shape == (256, 256)
    assert logits[64, 128] == pytest.approx(inside, rel=1e-4)
    assert logits[10, 10] == pytest.approx(-inside, rel=1e-4)
    assert (logits[130:] == logits[255, 255]).all(), "the padding is background"
    assert logits_geometry(manifest(), Size(300, 600)).valid == Size(512, 1024)
