"""What the samples of a TIFF page mean: TIFF 6.0's photometric interpretations to channels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import damaged_file_error

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
# The interpretations that are read; YCbCr only where JPEG's decoder makes RGB of it.
SUPPORTED_PHOTOMETRIC = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR)


@dataclass(frozen=True)
class SampleFormat:
    """photometric: TIFF's number. bits: of a sample. colours: the palette [3, n] uint16, unless damaged."""

    photometric: int
    bits: int
    has_alpha: bool
    colours: object


def samples_to_channels(samples: NDArray[Any], kind: SampleFormat) -> tuple[NDArray[Any], bool]:
    """samples [H, W, C] as stored, to [H, W, any] grey, RGB or other channels, black at 0, and whether the
    last is alpha. Samples of 1, 2 or 4 bits are brought to 0..255; others stay in their type."""
    if samples.dtype == np.bool_:
        samples = samples.view(np.uint8)
    if kind.photometric == _PALETTE:
        return _palette(samples, kind.colours), False
    if samples.dtype.kind == "u":
        if kind.photometric == _WHITE_IS_ZERO:
            samples = np.array((1 << kind.bits) - 1, samples.dtype) - samples
        if kind.bits in (1, 2, 4):
            samples = samples * np.uint8(255 // ((1 << kind.bits) - 1))
        if kind.photometric == _CMYK and samples.shape[2] >= 4:
            return _cmyk(samples), False
    return samples, kind.has_alpha and samples.shape[2] > 1


def _palette(samples: NDArray[Any], colours: object) -> NDArray[np.uint8]:
    """[H, W, 3] from indices; the palette's 16 bits become 8, as in Pillow."""
    if not isinstance(colours, np.ndarray) or colours.dtype.kind != "u" or samples.dtype.kind != "u":
        raise damaged_file_error("TIFF")
    if colours.ndim != 2 or len(colours) != 3:
        raise damaged_file_error("TIFF")
    if samples[:, :, 0].max() >= colours.shape[1]:
        raise damaged_file_error("TIFF")
    rgb: NDArray[np.uint8] = (colours.T >> 8).astype(np.uint8)[samples[:, :, 0]]
    return rgb


def _cmyk(samples: NDArray[Any]) -> NDArray[Any]:
    """[H, W, 3] in the same type: (full - ink) * (full - black) / full, as in Pillow."""
    full = np.iinfo(samples.dtype).max
    rgb = np.empty((*samples.shape[:2], 3), samples.dtype)
    for row, inks in zip(rgb, samples, strict=True):  # by row, for the wider numbers take memory
        left = full - inks.astype(np.float64)
        row[:] = np.rint(left[:, :3] * left[:, 3:4] / full)
    return rgb
