"""Values of any type to 8 bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.types import Normalise, UInt8

# (low, high): what becomes 0 and what becomes 255.
ValueRange = tuple[float, float]

# As torch_em's normalize_percentile and cellpose's normalize99.
PERCENTILES = (1.0, 99.0)
_BLOCK_PIXELS = 1 << 18


def to_uint8(values: NDArray[Any], how: Normalise) -> UInt8:
    """values [H, W, C], integers or floats, to uint8 of the same shape, rounded.

    NONE leaves uint8 alone and stretches anything else from the least to the greatest value of all channels
    together, as micro-sam's `_to_image` does (it cuts where this rounds). MINMAX and PERCENTILE stretch every
    channel by itself, uint8 too. A channel of one value becomes 0. NaN and infinities count for no limit and
    become 0; raises BadInput if there is nothing else.
    """
    if is_8_bit_already(values.dtype, how):
        return values
    find = _percentiles if how is Normalise.PERCENTILE else find_extremes
    return stretch(values, resolve_ranges([find(values[:, :, c]) for c in range(values.shape[2])], how))


def is_8_bit_already(dtype: np.dtype[Any], how: Normalise) -> bool:
    """Whether values are 8-bit as they are."""
    return how is Normalise.NONE and dtype == np.uint8


def resolve_ranges(found: list[ValueRange | None], how: Normalise) -> list[ValueRange]:
    """The limits of every channel, from what was found in each; None where nothing is finite. Raises BadInput
    where that is so everywhere."""
    known = [pair for pair in found if pair is not None]
    if not known:
        raise BadInput(
            "Every pixel of the image is NaN or infinite.",
            remedy="Send an image with finite values.",
            field="file",
        )
    if how is Normalise.NONE:
        joint = (min(low for low, _ in known), max(high for _, high in known))
        return [joint] * len(found)
    return [pair or (0.0, 0.0) for pair in found]


def stretch(values: NDArray[Any], limits: list[ValueRange]) -> UInt8:
    """values [H, W, C] to uint8, each channel by its limits."""
    result = np.empty(values.shape, np.uint8)
    for channel, pair in enumerate(limits):
        _stretch(values[:, :, channel], pair, result[:, :, channel])
    return result


def stretch_channel(values: NDArray[Any], limits: ValueRange) -> UInt8:
    """(v - low) / (high - low) * 255, rounded, cut to 0..255; 0 where not finite or if high is not above."""
    low, high = limits
    with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN is invalid already when cast
        span = np.float64(high) - np.float64(low)
        if np.isinf(span):  # nearly all of float64's range: halves of everything fit
            return stretch_channel(values / 2, (low / 2, high / 2))
        if not span > 0:  # NaN too: interpolation between values so far apart overflows
            return np.zeros(values.shape, np.uint8)
        scaled = values.astype(np.float64)
        scaled[~np.isfinite(scaled)] = low
        scaled -= low
        scaled /= span
        scaled *= 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def compute_histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """How often each value occurs. values [H, ...] uint8 or uint16; answers [256] or [65536]."""
    counts = np.zeros(np.iinfo(values.dtype).max + 1, np.int64)
    for block in _blocks(values):
        counts += np.bincount(block.ravel(), minlength=len(counts))
    return counts


def percentiles_of_histogram(counts: NDArray[np.int64], at: tuple[float, float]) -> ValueRange:
    """What np.percentile (linear) answers for the values that `counts` counts."""
    below = np.cumsum(counts)
    place = np.asarray(at) / 100 * (below[-1] - 1)
    before = np.searchsorted(below, np.floor(place), side="right")
    after = np.searchsorted(below, np.ceil(place), side="right")
    low, high = before + (after - before) * (place - np.floor(place))
    return float(low), float(high)


def _stretch(channel: NDArray[Any], limits: ValueRange, out: UInt8) -> None:
    """channel [H, W] into out [H, W]."""
    table = None
    if is_countable(channel):
        table = stretch_channel(np.arange(np.iinfo(channel.dtype).max + 1), limits)
    for block, target in zip(_blocks(channel), _blocks(out), strict=True):
        target[...] = stretch_channel(block, limits) if table is None else table[block]


def find_extremes(channel: NDArray[Any]) -> ValueRange | None:
    """Least and greatest finite value of [H, W], or None if there is none."""
    found = (block[np.isfinite(block)] if block.dtype.kind == "f" else block for block in _blocks(channel))
    ranges = [(float(values.min()), float(values.max())) for values in found if values.size]
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def _percentiles(channel: NDArray[Any]) -> ValueRange | None:
    """The percentiles of the finite values of [H, W], or None if there are none."""
    if is_countable(channel):
        return percentiles_of_histogram(compute_histogram(channel), PERCENTILES)
    # float32 and float64 are wide enough for the differences that interpolation takes.
    wide = np.float32 if channel.dtype in (np.float16, np.float32) else np.float64
    values = channel[np.isfinite(channel)].astype(wide, copy=False)
    if not values.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.percentile(values, PERCENTILES, overwrite_input=True)
    return float(low), float(high)


def is_countable(values: NDArray[Any]) -> bool:
    """Whether there are few enough values to count each."""
    return values.dtype in (np.uint8, np.uint16)


def _blocks(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of some rows each, so that temporary copies stay small."""
    rows = max(1, _BLOCK_PIXELS * len(values) // max(1, values.size))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]
