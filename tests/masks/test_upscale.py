"""Upscaling equals the torch code of the model families, and computes only near the edge."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segserve.masks import crop as crops
from segserve.masks import upscale as module
from segserve.masks.upscale import LogitsGeometry, upscale_logits, upscale_mask
from segserve.types import Bool, Float32, Size
from tests.rounding import Float64, bilinear, bilinear_error, undecided

torch: Any = pytest.importorskip("torch")


sides = st.one_of(st.integers(1, 40), st.integers(41, 700))
geometries = st.one_of(
    st.builds(
        lambda size, model: LogitsGeometry.padded(size, *model),
        st.builds(Size, sides, sides),
        st.sampled_from([(1024, 256), (512, 128), (256, 64), (100, 30)]),
    ),
    st.builds(LogitsGeometry.stretched, st.builds(Size, sides, sides), st.sampled_from([256, 64])),
)


def resize(logits: Any, height: int, width: int) -> Any:
    return torch.nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def by_torch(logits: Any, geometry: LogitsGeometry) -> Any:
    """`Sam.postprocess_masks`; with `stretched`, the one step of SAM 2. In the type of the logits."""
    tensor = torch.from_numpy(logits)[None, None]
    if geometry.square != geometry.low:
        tensor = resize(tensor, geometry.square, geometry.square)
    tensor = tensor[..., : geometry.valid.height, : geometry.valid.width]
    return resize(tensor, geometry.original.height, geometry.original.width)[0, 0].numpy()


def reference(logits: Float32, geometry: LogitsGeometry) -> tuple[Float64, float]:
    """The upscaled logits [H, W] by torch in float64, and how far float32 may be from them: the errors of both steps,
    the second of values that the first has made flatter. torch's own float32 must be as near."""
    exact: Float64 = by_torch(logits.astype(np.float64), geometry)
    error = 0.0
    if geometry.square != geometry.low:
        error = bilinear_error(logits)
        logits = bilinear(logits, geometry.square, geometry.square).astype(np.float32)
    error += bilinear_error(logits[: geometry.valid.height, : geometry.valid.width])
    return exact, error


def blobs(low: int, seed: int) -> Float32:
    """Smooth logits within about +-10, of a random coarseness and offset."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 4, (1, 1, *rng.integers(2, low // 2, 2))).astype(np.float32)
    smooth: Float32 = resize(torch.from_numpy(coarse), low, low)[0, 0].numpy()
    return smooth + np.float32(rng.uniform(-4, 4))


def assert_same(mask: Bool, exact: Float64, error: float) -> None:
    """The mask is where the exact logits are positive, apart from pixels that rounding decides."""
    assert not ((mask != (exact > 0)) & ~undecided(exact, error)).any()


@settings(max_examples=60, deadline=None)
@given(geometries, st.integers(0, 2**32))
def test_mask_is_where_the_reference_is_positive(geometry: LogitsGeometry, seed: int) -> None:
    logits = blobs(geometry.low, seed)
    assert_same(crops.to_mask(upscale_mask(logits, geometry)), *reference(logits, geometry))


@settings(max_examples=40, deadline=None)
@given(geometries, st.integers(0, 2**32))
def test_logits_are_those_of_the_reference(geometry: LogitsGeometry, seed: int) -> None:
    logits = blobs(geometry.low, seed)
    exact, error = reference(logits, geometry)
    assert np.abs(upscale_logits(logits, geometry) - exact).max() <= error
    assert np.abs(by_torch(logits, geometry) - exact).max() <= error


@pytest.mark.parametrize("size", [(3000, 17), (17, 3000), (3000, 1), (1, 1), (2, 1), (1500, 2001), (64, 64)])
@pytest.mark.parametrize("padded", [True, False])
def test_extreme_sizes(size: tuple[int, int], padded: bool) -> None:
    original = Size(*size)
    geometry = (
        LogitsGeometry.padded(original, 1024, 256) if padded else LogitsGeometry.stretched(original, 256)
    )
    for seed in range(3):
        logits = blobs(256, seed)
        assert_same(crops.to_mask(upscale_mask(logits, geometry)), *reference(logits, geometry))


@settings(max_examples=40, deadline=None)
@given(geometries, st.data())
def test_a_single_positive_value(geometry: LogitsGeometry, data: st.DataObject) -> None:
    logits = np.full((geometry.low, geometry.low), -1, np.float32)
    y, x = (data.draw(st.integers(0, geometry.low - 1)) for _ in range(2))
    logits[y, x] = 7
    assert_same(crops.to_mask(upscale_mask(logits, geometry)), *reference(logits, geometry))


@given(geometries)
@settings(max_examples=30, deadline=None)
def test_all_negative_is_empty(geometry: LogitsGeometry) -> None:
    crop = upscale_mask(np.full((geometry.low, geometry.low), -0.1, np.float32), geometry)
    assert (crop.pixels.shape, crop.x, crop.y, crop.size) == ((0, 0), 0, 0, geometry.original)


@given(geometries)
@settings(max_examples=30, deadline=None)
def test_all_positive_is_everything(geometry: LogitsGeometry) -> None:
    crop = upscale_mask(np.full((geometry.low, geometry.low), 0.1, np.float32), geometry)
    assert crop.pixels.shape == (geometry.original.height, geometry.original.width)
    assert crop.pixels.all()


def test_positive_only_in_the_padding_is_empty() -> None:
    logits = np.full((256, 256), -1, np.float32)
    logits[200:] = 5
    crop = upscale_mask(logits, LogitsGeometry.padded(Size(300, 600), 1024, 256))
    assert crop.pixels.size == 0


@settings(max_examples=20, deadline=None)
@given(geometries, st.integers(0, 2**32))
def test_crop_is_the_bounding_box_of_its_ones(geometry: LogitsGeometry, seed: int) -> None:
    crop = upscale_mask(blobs(geometry.low, seed) - np.float32(3), geometry)
    height, width = crop.pixels.shape
    assert crops.bounding_box(crop) == (crop.x, crop.y, crop.x + width, crop.y + height)


@pytest.mark.parametrize("threshold", [-2.5, 0.0, 1.25])
def test_threshold_is_what_logits_must_exceed(threshold: float) -> None:
    geometry = LogitsGeometry.padded(Size(480, 640), 1024, 256)
    logits = blobs(256, 5)
    mask = crops.to_mask(upscale_mask(logits, geometry, threshold))
    exact, error = reference(logits, geometry)
    assert_same(mask, exact - threshold, error)


def test_only_blocks_on_the_edge_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = LogitsGeometry.padded(Size(3000, 4000), 1024, 256)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    logits = 40 - np.hypot(y - 96, x - 128)
    computed = []
    compute = module._compute_blocks

    def counting(*args: Any) -> Any:
        computed.append(int(args[-1].sum()))
        return compute(*args)

    monkeypatch.setattr(module, "_compute_blocks", counting)
    upscale_mask(logits, geometry)
    diameter_in_blocks = 2 * 40 * 4000 / 256 / module.BLOCK_PX
    assert 0 < computed[0] < 8 * diameter_in_blocks


def test_padded_rounds_as_segment_anything_does() -> None:
    # get_preprocess_shape(1200, 1800, 1024) and (1801, 1200, 1024), worked out by hand.
    assert LogitsGeometry.padded(Size(1200, 1800), 1024, 256).valid == Size(683, 1024)
    assert LogitsGeometry.padded(Size(1801, 1200), 1024, 256).valid == Size(1024, 682)


def test_logits_of_another_size_are_refused() -> None:
    geometry = LogitsGeometry.stretched(Size(10, 10), 256)
    with pytest.raises(ValueError, match="do not fit"):
        upscale_mask(np.zeros((64, 64), np.float32), geometry)


@settings(max_examples=60, deadline=None)
@given(
    geometries, st.integers(0, 2**32), st.sampled_from([0.0, 0.5, -1.5]), st.sampled_from([0.0, 0.25, 3.0])
)
def test_measures_are_those_of_the_upscaled_mask(
    geometry: LogitsGeometry, seed: int, threshold: float, offset: float
) -> None:
    logits = blobs(geometry.low, seed)
    exact, near = reference(logits, geometry)
    full = exact - threshold
    measured = module.measure_mask(logits, geometry, threshold, offset)
    for area, level in ((measured.area, 0.0), (measured.inner, offset), (measured.outer, -offset)):
        assert np.count_nonzero(full > level + near) <= area <= np.count_nonzero(full > level - near)
    mask = upscale_mask(logits, geometry, threshold)
    assert np.abs(np.subtract(measured.box, crops.bounding_box(mask))).max() <= (np.abs(full) <= near).sum()
    assert measured.area == crops.area(mask) or (np.abs(full) <= near).any()


def test_a_mask_without_pixels_has_no_area_and_no_box() -> None:
    geometry = LogitsGeometry.padded(Size(70, 100), 256, 64)
    nothing = module.measure_mask(np.full((64, 64), -5, np.float32), geometry, 0, 1)
    assert (nothing.area, nothing.inner, nothing.outer, nothing.box) == (0, 0, 0, (0, 0, 0, 0))
    everything = module.measure_mask(np.full((64, 64), 5, np.float32), geometry, 0, 1)
    assert (everything.area, everything.inner, everything.outer) == (7000, 7000, 7000)
    assert everything.box == (0, 0, 100, 70)
    between = module.measure_mask(np.full((64, 64), -0.5, np.float32), geometry, 0, 1)
    assert (between.area, between.outer, between.box) == (0, 7000, (0, 0, 0, 0))
