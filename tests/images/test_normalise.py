"""Values of any dtype become 8-bit by their minimum and maximum, or by percentiles."""

import numpy as np
import pytest

from segserve.types import Normalise
from tests.images.decoding import (
    RGB,
    RNG,
    STRETCHES,
    H,
    W,
    expect_refusal,
    nearly_equal,
    read,
    repeat_grey,
    stretch_auto,
    stretch_minmax,
    stretch_percentile,
)
from tests.images.sample_images import write_tiff


class TestAuto:
    """The default: what is 8-bit stays, what is deeper is stretched without its darkest and brightest values."""

    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
    def test_hot_pixels_leave_the_others_their_contrast(self, dtype: type) -> None:
        values = RNG.integers(100, 200, (100, 100)).astype(dtype)
        values[0, :5] = 30_000
        image = read(write_tiff(values), normalise=Normalise.AUTO)
        assert nearly_equal(image, repeat_grey(stretch_auto(values)))
        assert len(np.unique(image)) > 90
        assert len(np.unique(read(write_tiff(values), normalise=Normalise.NONE))) < 5

    def test_few_bright_objects_stay_apart(self) -> None:
        """They are less than 1% of the image, so the 99th percentile is of the noise."""
        values = RNG.integers(100, 110, (200, 200)).astype(np.uint16)
        values[:10, :10], values[20:30, :10] = 500, 900
        image = read(write_tiff(values), normalise=Normalise.AUTO)
        assert nearly_equal(image, repeat_grey(stretch_auto(values)))
        assert image[5, 5, 0] > 200
        assert image[150:].max() < 10

    def test_8_bit_stays(self) -> None:
        assert np.array_equal(
            read(write_tiff(RGB // 2, photometric="rgb"), normalise=Normalise.AUTO), RGB // 2
        )

    def test_channels_keep_their_proportions(self) -> None:
        deep = RNG.integers(0, 256, (H, W, 3), np.uint16) * np.array([1, 10, 100], np.uint16)
        image = read(write_tiff(deep, photometric="rgb"), normalise=Normalise.AUTO)
        assert image[:, :, 0].max() < 5 < image[:, :, 1].max() < 50 < image[:, :, 2].max()

    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
    def test_a_nearly_empty_image_shows_what_is_in_it(self, dtype: type) -> None:
        values = np.zeros((100, 100), dtype)
        values[3, 4:6] = 500, 1000
        image = read(write_tiff(values), normalise=Normalise.AUTO)
        assert image[3, 4:6, 0].tolist() == [128, 255]
        assert not np.delete(image.reshape(-1, 3), [304, 305], 0).any()


class TestNormalise:
    def test_none_stretches_deep_channels_together(self) -> None:
        deep = RNG.integers(0, 256, (H, W, 3), np.uint16) * np.array([1, 10, 100], np.uint16) + 7
        assert np.array_equal(read(write_tiff(deep, photometric="rgb")), stretch_minmax(deep))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
    def test_minmax_stretches_each_channel(self, dtype: type) -> None:
        values = (RGB // np.array([1, 3, 5], np.uint8)).astype(dtype)
        expected = np.stack([stretch_minmax(values[:, :, channel]) for channel in range(3)], axis=2)
        assert np.array_equal(
            read(write_tiff(values, photometric="rgb"), normalise=Normalise.MINMAX), expected
        )

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float32])
    def test_percentile_stretches_each_channel(self, dtype: type) -> None:
        values = (RGB // np.array([1, 3, 5], np.uint8)).astype(dtype)
        expected = np.stack([stretch_percentile(values[:, :, channel]) for channel in range(3)], axis=2)
        assert nearly_equal(
            read(write_tiff(values, photometric="rgb"), normalise=Normalise.PERCENTILE), expected
        )

    def test_large_image_in_blocks(self) -> None:
        values = RNG.random((700, 900)).astype(np.float32)
        assert np.array_equal(read(write_tiff(values)), repeat_grey(stretch_minmax(values)))
        deep = (values * 50_000).astype(np.uint16)
        assert nearly_equal(
            read(write_tiff(deep), normalise=Normalise.PERCENTILE), repeat_grey(stretch_percentile(deep))
        )

    @pytest.mark.parametrize("mode", list(Normalise))
    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
    def test_constant_becomes_zero(self, mode: Normalise, dtype: type) -> None:
        assert not read(write_tiff(np.full((H, W), 9, dtype)), normalise=mode).any()

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_nan_and_infinity_become_zero(self, mode: Normalise) -> None:
        values = RNG.random((H, W)).astype(np.float32)
        values[0, :3] = np.nan, np.inf, -np.inf
        values.view(np.uint32)[0, 3] = 0x7FA00000  # a signalling NaN
        image = read(write_tiff(values), normalise=mode)
        assert not image[0, :4].any()
        finite = values[np.isfinite(values)]
        expected = STRETCHES[mode](finite)
        assert nearly_equal(image[np.isfinite(values)][:, 0], expected)

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_an_image_without_finite_values_is_refused(self, mode: Normalise) -> None:
        expect_refusal(write_tiff(np.full((H, W), np.nan, np.float32)), normalise=mode)

    def test_one_channel_of_nan(self) -> None:
        values = RNG.random((H, W, 3)).astype(np.float32)
        values[:, :, 1] = np.nan
        image = read(write_tiff(values, photometric="rgb"), normalise=Normalise.MINMAX)
        assert not image[:, :, 1].any()
        assert image[:, :, 0].max() == 255

    @pytest.mark.parametrize("mode", list(Normalise))
    def test_whole_range_of_float64(self, mode: Normalise) -> None:
        values = np.linspace(-1, 1, H * W).reshape(H, W) * 1.79e308
        image = read(write_tiff(values), normalise=mode)[:, :, 0].ravel()
        assert (np.diff(image.astype(int)) >= 0).all()

    def test_smallest_steps_of_float64(self) -> None:
        values = np.zeros((H, W))
        values[0, 0] = 5e-324
        assert read(write_tiff(values)).max() in (0, 255)
