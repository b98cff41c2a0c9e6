"""Find minimum, maximum and percentiles of an image that is read in bands and never held in memory as a whole.

Percentiles need sorted values. Where the dtype has too many values for a histogram, the order statistics are found
digit by digit: a radix selection, which reads the image once for every 16 bits of a value.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.normalise import (
    PERCENTILES,
    ValueRange,
    choose_range,
    compute_histogram,
    find_extremes,
    is_countable,
    needs_extremes,
    percentiles_of_histogram,
    resolve_ranges,
    split_into_blocks,
)
from segserve.types import Normalise

# Reads the image from the start and yields [h, W, C] from top to bottom.
ReadBands = Callable[[], Iterable[NDArray[Any]]]

_DIGIT_BITS = 16


def find_value_ranges(read_bands: ReadBands, mode: Normalise) -> list[ValueRange]:
    """Return (low, high) of every channel, the same as `normalise.to_uint8` would find.

    Raises BadInput where no value is finite.
    """
    percentiles = PERCENTILES.get(mode)
    if percentiles is None:
        return resolve_ranges(_find_extremes(read_bands), mode)
    measured = _find_percentiles(read_bands, percentiles)
    if needs_extremes(measured, mode):
        measured = _find_extremes(read_bands)
    return resolve_ranges(measured, mode)


def _find_extremes(read_bands: ReadBands) -> list[ValueRange | None]:
    ranges: list[ValueRange | None] = []
    for band in read_bands():
        of_band = [find_extremes(band[:, :, channel]) for channel in range(band.shape[2])]
        ranges = [_union(*pair) for pair in zip(ranges, of_band, strict=True)] if ranges else of_band
    return ranges


def _union(a: ValueRange | None, b: ValueRange | None) -> ValueRange | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def _find_percentiles(read_bands: ReadBands, percentiles: tuple[float, ...]) -> list[ValueRange | None]:
    first = next(iter(read_bands()))
    if not is_countable(first.dtype):
        return [_select_percentiles(read_bands, channel, percentiles) for channel in range(first.shape[2])]
    counts = [np.zeros(np.iinfo(first.dtype).max + 1, np.int64) for _ in range(first.shape[2])]
    for band in read_bands():
        for channel, total in enumerate(counts):
            total += compute_histogram(band[:, :, channel])
    return [choose_range(*percentiles_of_histogram(total, percentiles)) for total in counts]


def _select_percentiles(
    read_bands: ReadBands, channel: int, percentiles: tuple[float, ...]
) -> ValueRange | None:
    """Return the percentiles of a channel, interpolated as np.percentile does by default."""
    count = sum(
        int(np.isfinite(block).sum())
        for band in read_bands()
        for block in split_into_blocks(band[:, :, channel])
    )
    if not count:
        return None
    positions = np.asarray(percentiles) / 100 * (count - 1)
    ranks = sorted({int(rank) for position in positions for rank in (np.floor(position), np.ceil(position))})
    values = dict(zip(ranks, _select_order_statistics(read_bands, channel, ranks), strict=True))
    found = (
        values[int(np.floor(position))] * (1 - position % 1) + values[int(np.ceil(position))] * (position % 1)
        for position in positions
    )
    return choose_range(*(float(value) for value in found))


def _select_order_statistics(read_bands: ReadBands, channel: int, ranks: list[int]) -> list[float]:
    """Return the values at `ranks`, from 0, of all finite values in ascending order."""
    dtype = next(iter(read_bands())).dtype
    bits = 8 * dtype.itemsize
    # prefixes: the leading digits of the value at each rank. remaining: its rank among the values with those digits.
    prefixes, remaining = [0] * len(ranks), list(ranks)
    for shift in range(bits - min(bits, _DIGIT_BITS), -1, -_DIGIT_BITS):
        counts = {prefix: np.zeros(1 << min(bits, _DIGIT_BITS), np.int64) for prefix in prefixes}
        for band in read_bands():
            for block in split_into_blocks(band[:, :, channel]):  # keys take eight bytes each
                _count_digits(_to_sort_keys(block), shift, counts)
        for index, prefix in enumerate(prefixes):
            cumulative = np.cumsum(counts[prefix])
            digit = int(np.searchsorted(cumulative, remaining[index], side="right"))
            remaining[index] -= int(cumulative[digit - 1]) if digit else 0
            prefixes[index] = prefix << _DIGIT_BITS | digit
    return [_from_sort_key(key, dtype) for key in prefixes]


def _count_digits(keys: NDArray[np.uint64], shift: int, counts: dict[int, NDArray[np.int64]]) -> None:
    """Add to `counts`, by the digits above `shift`, how often each next digit occurs in `keys`."""
    for prefix, total in counts.items():
        # Shifted in two steps: a shift by all bits of a number is not defined.
        same = keys[(keys >> np.uint64(shift) >> np.uint64(_DIGIT_BITS)) == prefix]
        digits = (same >> np.uint64(shift)) & np.uint64(len(total) - 1)
        total += np.bincount(digits.astype(np.int64), minlength=len(total))


def _to_sort_keys(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the finite values of [h, W] as unsigned integers that sort in the same order."""
    finite = values[np.isfinite(values)]
    bits = 8 * finite.itemsize
    keys = np.ascontiguousarray(finite).view(f"u{finite.itemsize}").astype(np.uint64)
    sign = np.uint64(1 << (bits - 1))
    if finite.dtype.kind == "i":
        keys ^= sign
    elif finite.dtype.kind == "f":  # the bits of negative floats sort in reverse
        keys ^= np.where(keys & sign, np.uint64((1 << bits) - 1), sign)
    return keys


def _from_sort_key(key: int, dtype: np.dtype[Any]) -> float:
    """Return the value of a key of `_to_sort_keys`."""
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)
    if dtype.kind == "i" or (dtype.kind == "f" and key & sign):
        key ^= sign
    elif dtype.kind == "f":
        key ^= (1 << bits) - 1
    return float(np.array([key], np.uint64).astype(f"u{dtype.itemsize}").view(dtype)[0])
