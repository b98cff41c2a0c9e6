"""Convert the stored samples of a TIFF page to grey or RGB channels (TIFF 6.0's photometric interpretation)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.alpha import unmultiply_alpha
from segserve.images.image_source import damaged_file_error
from segserve.images.no_data import no_data_to_nan

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
# The interpretations that are supported; YCbCr only where JPEG's decoder converts it to RGB.
SUPPORTED_PHOTOMETRIC = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR)


@dataclass(frozen=True)
class SampleFormat:
    """`SampleFormat` says how a page's samples are stored.

    photometric: TIFF's number of the interpretation.
    bits: of a sample.
    has_alpha: the last sample is opacity.
    is_premultiplied: the other samples are stored multiplied by it.
    no_data: the value that stands for "not measured".
    is_ycbcr: the decoder returns YCbCr, which JPEG's converts itself.
    colours: the palette [3, n] uint16, or anything else in a damaged file.
    """

    photometric: int
    bits: int
    has_alpha: bool
    colours: object
    is_premultiplied: bool = False
    no_data: float | None = None
    is_ycbcr: bool = False

    @property
    def becomes_rgb(self) -> bool:
        """Return whether samples are converted to RGB: palettes and CMYK."""
        return self.photometric in (_PALETTE, _CMYK)

    @property
    def is_converted(self) -> bool:
        """Return whether `samples_to_channels` makes a copy of the samples."""
        return (
            self.becomes_rgb
            or self.is_ycbcr
            or self.is_premultiplied
            or self.photometric == _WHITE_IS_ZERO
            or self.bits < 8
        )


def samples_to_channels(samples: NDArray[Any], sample_format: SampleFormat) -> tuple[NDArray[Any], bool]:
    """Return the channels [H, W, any], black at 0, and whether the last one is alpha.

    samples: [H, W, C] as stored.

    Palettes and CMYK become RGB. Samples of 1, 2 or 4 bits are scaled to 0..255; others keep their dtype.
    """
    if samples.dtype == np.bool_:
        samples = samples.view(np.uint8)
    if sample_format.photometric == _PALETTE:
        return _palette_to_rgb(samples, sample_format.colours), False
    if samples.dtype.kind == "u":
        if sample_format.photometric == _WHITE_IS_ZERO:
            samples = np.array((1 << sample_format.bits) - 1, samples.dtype) - samples
        if sample_format.bits in (1, 2, 4):
            samples = samples * np.uint8(255 // ((1 << sample_format.bits) - 1))
        if sample_format.photometric == _CMYK and samples.shape[2] >= 4:
            return _cmyk_to_rgb(samples), False
    if sample_format.is_ycbcr:
        return _ycbcr_to_rgb(samples), False
    has_alpha = sample_format.has_alpha and samples.shape[2] > 1
    if has_alpha and sample_format.is_premultiplied:
        samples = unmultiply_alpha(samples)
    if sample_format.no_data is not None and samples.dtype != np.uint8:
        samples = no_data_to_nan(samples, sample_format.no_data)
    return samples, has_alpha


def _ycbcr_to_rgb(samples: NDArray[Any]) -> NDArray[Any]:
    """Return RGB [H, W, 3] uint8 of YCbCr, all of its range used (JFIF; ITU-R BT.601)."""
    if samples.dtype != np.uint8 or samples.shape[2] < 3:
        raise damaged_file_error("TIFF")
    rgb = np.empty((*samples.shape[:2], 3), np.uint8)
    for row, stored in zip(rgb, samples, strict=True):  # row by row, because floats take memory
        luma, blue, red = stored[:, :3].T.astype(np.float32)
        blue, red = blue - 128, red - 128
        colours = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
        row[:] = np.clip(np.rint(np.stack(colours, axis=1)), 0, 255)
    return rgb


def _palette_to_rgb(samples: NDArray[Any], colours: object) -> NDArray[np.uint8]:
    """Return RGB [H, W, 3] of palette indices; the palette's 16 bits become 8, as in Pillow."""
    if not isinstance(colours, np.ndarray) or colours.dtype.kind != "u" or samples.dtype.kind != "u":
        raise damaged_file_error("TIFF")
    if colours.ndim != 2 or len(colours) != 3:
        raise damaged_file_error("TIFF")
    if samples[:, :, 0].max() >= colours.shape[1]:
        raise damaged_file_error("TIFF")
    rgb: NDArray[np.uint8] = (colours.T >> 8).astype(np.uint8)[samples[:, :, 0]]
    return rgb


def _cmyk_to_rgb(samples: NDArray[Any]) -> NDArray[Any]:
    """Return RGB [H, W, 3] of the same dtype: (full - ink) * (full - black) / full, as in Pillow."""
    full = np.iinfo(samples.dtype).max
    rgb = np.empty((*samples.shape[:2], 3), samples.dtype)
    for row, inks in zip(rgb, samples, strict=True):  # row by row, because float64 takes memory
        left = full - inks.astype(np.float64)
        row[:] = np.rint(left[:, :3] * left[:, 3:4] / full)
    return rgb
