"""Preprocessing (grey, CLAHE, normalisation) equals numpy, Pillow and OpenCV."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segserve.models.bundle import Bundle
from segserve.models.manifest import SemanticManifest
from segserve.models.semantic_manifest import Clahe, SemanticInput
from segserve.semantic.clahe import apply_clahe
from segserve.semantic.preprocess import prepare_input
from segserve.types import Float32, UInt8

NUCLEI = Path(__file__).parents[2] / "examples" / "nuclei.png"
TISSUE = Path(__file__).parents[2] / "examples" / "tissue.jpg"


def picture(seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(3, 200, (50, 70, 3), dtype=np.uint8)


def prepared(image: UInt8, **options: Any) -> Float32:
    network_input = prepare_input(image, SemanticInput.model_validate(options))
    return network_input.read_tile(0, 0, *image.shape[:2]).transpose(1, 2, 0)


def test_by_default_values_are_0_to_1() -> None:
    np.testing.assert_allclose(prepared(picture()), picture() / 255, atol=1e-7)


@pytest.mark.parametrize("white", [1, 255])
def test_mean_and_deviation_on_either_scale(white: int) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    normalise = {
        "method": "fixed",
        "mean": [white * m for m in mean],
        "std": [white * s for s in std],
        "white": white,
    }
    expected = (picture() / 255 - mean) / std
    np.testing.assert_allclose(prepared(picture(), normalise=normalise), expected, atol=1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("low", "high"), [(0, 100), (1, 99.8), (12.34, 56.78)])
def test_percentiles_are_numpys(per_channel: bool, low: float, high: float) -> None:
    normalise = {"method": "percentile", "low": low, "high": high, "per_channel": per_channel, "eps": 0}
    image = picture()
    a, b = np.percentile(image, [low, high], axis=(0, 1) if per_channel else None)
    np.testing.assert_allclose(prepared(image, normalise=normalise), (image - a) / (b - a), atol=1e-5)
    clipped = prepared(image, normalise={**normalise, "clip": True, "mean": [0.5], "std": [0.5]})
    np.testing.assert_allclose(clipped, np.clip((image - a) / (b - a), 0, 1) * 2 - 1, atol=1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
def test_standardise_is_numpys_zscore(per_channel: bool) -> None:
    image, axis = picture(), (0, 1) if per_channel else None
    result = prepared(image, normalise={"method": "standardise", "per_channel": per_channel})
    np.testing.assert_allclose(result, (image - image.mean(axis)) / image.std(axis), atol=1e-5)


@pytest.mark.parametrize("method", ["percentile", "standardise"])
def test_an_image_of_one_value_becomes_zero_and_not_nan(method: str) -> None:
    flat = np.full((9, 9, 3), 77, np.uint8)
    assert not prepared(flat, normalise={"method": method, "eps": 0}).any()


def test_grey_is_pillows() -> None:
    expected = np.asarray(Image.fromarray(picture()).convert("L")) / 255
    np.testing.assert_allclose(prepared(picture(), channels=1)[..., 0], expected, atol=1e-7)
    grey = np.repeat(picture()[..., :1], 3, axis=2)
    np.testing.assert_allclose(prepared(grey, channels=1)[..., 0], grey[..., 0] / 255, atol=1e-7)


def test_tiles_are_mirrored_beyond_the_image() -> None:
    network_input = prepare_input(picture()[:5, :3], SemanticInput())
    expected = np.pad(picture()[2:5, 1:3], ((0, 4), (0, 5), (0, 0)), mode="reflect") / 255
    np.testing.assert_allclose(network_input.read_tile(2, 1, 7, 7).transpose(1, 2, 0), expected, atol=1e-7)


CLAHE = [
    (limit, tiles, size)
    for limit, tiles, size in itertools.product(
        [1.0, 2.0, 4.0, 40.0], [1, 4, 8], [(520, 696), (101, 203), (64, 70)]
    )
]


@pytest.mark.parametrize(("limit", "tiles", "size"), CLAHE)
def test_clahe_is_opencvs_within_one_level(limit: float, tiles: int, size: tuple[int, int]) -> None:
    image = np.asarray(Image.open(NUCLEI).convert("L"))[: size[0], : size[1]]
    expected = cv2.createCLAHE(limit, (tiles, tiles)).apply(np.ascontiguousarray(image))
    result = apply_clahe(image, Clahe(clip_limit=limit, tiles=tiles))
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result != expected).mean() < 0.02


def test_colours_keep_their_hue_under_clahe_as_in_opencv() -> None:
    image = np.asarray(Image.open(TISSUE).convert("RGB"))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(4.0, (8, 8)).apply(lab[..., 0])
    expected = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    difference = np.abs(apply_clahe(image, Clahe()).astype(int) - expected)
    assert difference.mean() < 1.2
    assert np.median(difference) <= 1
    assert np.percentile(difference, 99) <= 5


def test_statistics_are_those_of_the_whole_image_not_of_a_tile() -> None:
    image = picture()
    image[:, :10] = 0
    network_input = prepare_input(
        image, SemanticInput.model_validate({"normalise": {"method": "percentile"}})
    )
    whole = network_input.read_tile(0, 0, 50, 70)
    np.testing.assert_array_equal(network_input.read_tile(10, 20, 16, 16), whole[:, 10:26, 20:36])


def test_normalise_may_be_spelled_normalize() -> None:
    method = {"method": "percentile", "low": 2}
    expected = SemanticInput.model_validate({"normalise": method})
    assert SemanticInput.model_validate({"normalize": method}) == expected
    assert SemanticInput.model_validate({"normalise": method, "normalize": method}) == expected


BAD = {
    "no class": ({"classes": []}, "classes"),
    "the same class twice": ({"classes": ["a", "a"]}, "different names"),
    "a background beyond the channels": ({"background": 3}, "background"),
    "nothing but background": ({"classes": ["a"], "background": 0}, "not background"),
    "softmax over one channel": ({"classes": ["a"], "activation": "softmax"}, "softmax"),
    "thresholds of other classes": ({"thresholds": [0.5]}, "as many"),
    "a threshold beyond 1": ({"thresholds": [0.5, 0.5, 1.5]}, "thresholds"),
    "two channels": ({"input": {"channels": 2}}, "channels"),
    "means of other channels": ({"input": {"normalise": {"mean": [1, 2], "std": [1, 1]}}}, "mean"),
    "a deviation of zero": ({"input": {"normalise": {"method": "fixed", "std": [0]}}}, "std"),
    "percentiles reversed": (
        {"input": {"normalise": {"method": "percentile", "low": 99, "high": 1}}},
        "below",
    ),
    "a tile of another multiple": ({"tile": [100, 100]}, "multiples"),
    "an unknown method": ({"input": {"normalise": {"method": "magic"}}}, "magic"),
    "two spellings that differ": (
        {"input": {"normalise": {"method": "fixed"}, "normalize": {"method": "standardise"}}},
        "normalize",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_manifest_is_refused(name: str) -> None:
    from pydantic import ValidationError

    fields, message = BAD[name]
    manifest = {"name": "m", "architecture": "", "classes": ["a", "b", "c"], "files": {}, **fields}
    with pytest.raises(ValidationError, match=message):
        SemanticManifest.model_validate(manifest)


def test_the_kind_field_selects_the_manifest_class(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(
        "name: m\nkind: semantic\narchitecture: unet\nclasses: [a]\nfiles: {}\n"
    )
    assert isinstance(Bundle(tmp_path).manifest, SemanticManifest)
