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

# The percentiles that the modes measure; see `choose_range`.
PERCENTILES: dict[Normalise, tuple[float, ...]] = {
    # The defaults of torch_em's normalize_percentile and cellpose's normalize99.
    Normalise.PERCENTILE: (1.0, 99.0),
    Normalise.AUTO: (1.0, 99.0, 99.9),
}
# AUTO stretches at most this many times as much as up to the highest percentile. The brightest 1% may be all objects.
MAX_STRETCH = 2.0
# Modes that leave 8-bit values as they are, and stretch all channels of deeper ones by one range.
JOINT_MODES = (Normalise.AUTO, Normalise.NONE)
# Pixels converted at a time: keeps temporary float64 copies at 2 MiB.
_BLOCK_PIXELS = 1 << 18


def to_uint8(values: NDArray[Any], mode: Normalise, no_data: float | None = None) -> UInt8:
    """Return `values` as uint8 of the same shape, rounded.

    values: [H, W, C], integers or floats.
    no_data: a value that counts as NaN.

    AUTO and NONE leave uint8 alone, and stretch all channels of any other dtype by one range: NONE from the minimum to
    the maximum, as micro-sam's `_to_image` does (which truncates where this rounds), AUTO between percentiles. MINMAX
    and PERCENTILE stretch every channel by itself, uint8 too. Where AUTO's percentiles are one value, as in an image
    that is empty but for a few pixels, the minimum and the maximum count. A channel of one value becomes 0. NaN
    and infinities do not count for the range, and become 0. Raises BadInput if there are no other values.
    """
    if is_8_bit_already(values.dtype, mode):
        return values
    if no_data is not None:
        values = no_data_to_nan(values, no_data)
    channels = range(values.shape[2])
    measured = [find_range(values[:, :, channel], mode) for channel in channels]
    if needs_extremes(measured, mode):
        measured = [find_extremes(values[:, :, channel]) for channel in channels]
    return stretch(values, resolve_ranges(measured, mode))


def find_range(channel: NDArray[Any], mode: Normalise) -> ValueRange | None:
    """Return the range of [H, W] by the mode, or None if no value is finite."""
    percentiles = PERCENTILES.get(mode)
    return find_extremes(channel) if percentiles is None else find_percentiles(channel, percentiles)


def choose_range(low: float, high: float, higher: float | None = None) -> ValueRange:
    """Return the range by two percentiles, or by the three of AUTO.

    AUTO ends at the lower of the two high ones, unless that cuts off more than it keeps of what the other one shows.
    """
    if higher is None:
        return low, high
    # Not low + (higher - low) / MAX_STRETCH: the difference may exceed the range of float64.
    return low, max(high, low * (1 - 1 / MAX_STRETCH) + higher / MAX_STRETCH)


def needs_extremes(measured: list[ValueRange | None], mode: Normalise) -> bool:
    """Return whether AUTO's percentiles say nothing, because they are one value in all channels."""
    known = [pair for pair in measured if pair is not None]
    return (
        mode is Normalise.AUTO
        and bool(known)
        and not max(high for _, high in known) > min(low for low, _ in known)
    )


def is_8_bit_already(dtype: np.dtype[Any], mode: Normalise) -> bool:
    """Return whether values of `dtype` stay as they are."""
    return mode in JOINT_MODES and dtype == np.uint8


def resolve_mode(dtype: np.dtype[Any], mode: Normalise) -> Normalise:
    """Return NONE for AUTO where values of `dtype` stay as they are, otherwise the mode itself."""
    return Normalise.NONE if mode is Normalise.AUTO and is_8_bit_already(dtype, mode) else mode


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
    if mode in JOINT_MODES:
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


def find_percentiles(channel: NDArray[Any], percentiles: tuple[float, ...]) -> ValueRange | None:
    """Return the range by percentiles of the finite values of [H, W], or None if no value is finite."""
    if is_countable(channel.dtype):
        return choose_range(*percentiles_of_histogram(compute_histogram(channel), percentiles))
    # float32 and float64 are wide enough for the differences that interpolation takes.
    wide = np.float32 if channel.dtype in (np.float16, np.float32) else np.float64
    values = channel[np.isfinite(channel)].astype(wide, copy=False)
    if not values.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.percentile(values, percentiles, overwrite_input=True)
        return choose_range(*(float(value) for value in found))


def is_countable(dtype: np.dtype[Any]) -> bool:
    """Return whether the dtype has few enough values for a histogram with a bin for each."""
    return dtype in (np.uint8, np.uint16)


def compute_histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return how often each value occurs, [256] or [65536], of `values` [H, ...] uint8 or uint16."""
    counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)
    for block in split_into_blocks(values):
        counts += np.bincount(block.ravel(), minlength=len(counts))
    return counts


def percentiles_of_histogram(counts: NDArray[np.int64], percentiles: tuple[float, ...]) -> tuple[float, ...]:
    """Return np.percentile (linear) of the values that the histogram `counts` counts."""
    cumulative = np.cumsum(counts)
    position = np.asarray(percentiles) / 100 * (cumulative[-1] - 1)
    before = np.searchsorted(cumulative, np.floor(position), side="right")
    after = np.searchsorted(cumulative, np.ceil(position), side="right")
    found = before + (after - before) * (position - np.floor(position))
    return tuple(float(value) for value in found)


def split_into_blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of some rows each, so that temporary copies stay small."""
    rows = max(1, _BLOCK_PIXELS * len(values) // max(1, values.size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
