"""Normalise (normalize) pixel values of any dtype to 8 bits: min-max or percentile stretch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.no_data import no_data_to_nan
from segserve.types import Normalise, UInt8

# (low, high): the values that become 0 and 255.
ValueRange = tuple[float, float]

# The defaults of torch_em's normalize_percentile and cellpose's normalize99.
PERCENTILES = (1.0, 99.0)
# Pixels converted at a time: keeps temporary float64 copies at 2 MiB.
_BLOCK_PIXELS = 1 << 18


def to_uint8(values: NDArray[Any], mode: Normalise, no_data: float | None = None) -> UInt8:
    """Return `values` as uint8 of the same shape, rounded.

    values: [H, W, C], integers or floats.
    no_data: a value that counts as NaN.

    NONE leaves uint8 alone and stretches any other dtype from the minimum to the maximum of all channels together, as
    micro-sam's `_to_image` does (which truncates where this rounds). MINMAX and PERCENTILE stretch every channel by
    itself, uint8 too. A channel of one value becomes 0. NaN and infinities do not count for the range, and
    become 0. Raises BadInput if there are no other values.
    """
    if is_8_bit_already(values.dtype, mode):
        return values
    if no_data is not None:
        values = no_data_to_nan(values, no_data)
    find_range = find_percentiles if mode is Normalise.PERCENTILE else find_extremes
    return stretch(
        values, resolve_ranges([find_range(values[:, :, c]) for c in range(values.shape[2])], mode)
    )


def is_8_bit_already(dtype: np.dtype[Any], mode: Normalise) -> bool:
    """Return whether values of `dtype` stay as they are."""
    return mode is Normalise.NONE and dtype == np.uint8


def resolve_ranges(measured: list[ValueRange | None], mode: Normalise) -> list[ValueRange]:
    """Return the range to stretch of every channel.

    measured: the range of each channel's values; None where no value is finite. Raises BadInput where all are None.
    """
    known = [pair for pair in measured if pair is not None]
    if not known:
        raise BadInput(
            "Every pixel of the image is NaN or infinite.",
            remedy="Send an image with finite values.",
            field="file",
        )
    if mode is Normalise.NONE:
        joint = (min(low for low, _ in known), max(high for _, high in known))
        return [joint] * len(measured)
    return [pair or (0.0, 0.0) for pair in measured]


def stretch(values: NDArray[Any], ranges: list[ValueRange]) -> UInt8:
    """Return `values` [H, W, C] as uint8, each channel stretched from its range to 0..255."""
    result = np.empty(values.shape, np.uint8)
    for channel, value_range in enumerate(ranges):
        _stretch_channel(values[:, :, channel], value_range, result[:, :, channel])
    return result


def _stretch_channel(channel: NDArray[Any], value_range: ValueRange, out: UInt8) -> None:
    """Write `channel` [H, W], stretched, into `out` [H, W]."""
    table = None
    if is_countable(channel.dtype):
        table = _stretch_values(np.arange(np.iinfo(channel.dtype).max + 1), value_range)
    for block, target in zip(split_into_blocks(channel), split_into_blocks(out), strict=True):
        target[...] = _stretch_values(block, value_range) if table is None else table[block]


def _stretch_values(values: NDArray[Any], value_range: ValueRange) -> UInt8:
    """Return (v - low) / (high - low) * 255, rounded and clipped to 0..255.

    The result is 0 where v is not finite, and everywhere if high is not above low.
    """
    low, high = value_range
    with np.errstate(over="ignore", invalid="ignore"):  # casting a signalling NaN already warns
        span = np.float64(high) - np.float64(low)
        if np.isinf(span):  # the range of float64 is exceeded, but halves of all values fit
            return _stretch_values(values / 2, (low / 2, high / 2))
        if not span > 0:  # also NaN: interpolation between values too far apart overflows
            return np.zeros(values.shape, np.uint8)
        scaled = values.astype(np.float64)
        scaled[~np.isfinite(scaled)] = low
        scaled -= low
        scaled /= span
        scaled *= 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def find_extremes(channel: NDArray[Any]) -> ValueRange | None:
    """Return the minimum and maximum finite value of [H, W], or None if no value is finite."""
    finite = (
        block[np.isfinite(block)] if block.dtype.kind == "f" else block
        for block in split_into_blocks(channel)
    )
    ranges = [(float(values.min()), float(values.max())) for values in finite if values.size]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def find_percentiles(channel: NDArray[Any]) -> ValueRange | None:
    """Return the PERCENTILES of the finite values of [H, W], or None if no value is finite."""
    if is_countable(channel.dtype):
        return percentiles_of_histogram(compute_histogram(channel), PERCENTILES)
    # float32 and float64 are wide enough for the differences that interpolation takes.
    wide = np.float32 if channel.dtype in (np.float16, np.float32) else np.float64
    values = channel[np.isfinite(channel)].astype(wide, copy=False)
    if not values.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.percentile(values, PERCENTILES, overwrite_input=True)
    return float(low), float(high)


def is_countable(dtype: np.dtype[Any]) -> bool:
    """Return whether the dtype has few enough values for a histogram with a bin for each."""
    return dtype in (np.uint8, np.uint16)


def compute_histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return how often each value occurs, [256] or [65536], of `values` [H, ...] uint8 or uint16."""
    counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)
    for block in split_into_blocks(values):
        counts += np.bincount(block.ravel(), minlength=len(counts))
    return counts


def percentiles_of_histogram(counts: NDArray[np.int64], percentiles: tuple[float, float]) -> ValueRange:
    """Return np.percentile (linear) of the values that the histogram `counts` counts."""
    cumulative = np.cumsum(counts)
    position = np.asarray(percentiles) / 100 * (cumulative[-1] - 1)
    before = np.searchsorted(cumulative, np.floor(position), side="right")
    after = np.searchsorted(cumulative, np.ceil(position), side="right")
    low, high = before + (after - before) * (position - np.floor(position))
    return float(low), float(high)


def split_into_blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of some rows each, so that temporary copies stay small."""
    rows = max(1, _BLOCK_PIXELS * len(values) // max(1, values.size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
