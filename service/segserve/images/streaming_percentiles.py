"""What `scale` finds in an image, found in one that comes in bands and is never whole in memory.

Percentiles need the sorted values. Where there are too many values to count each, their order statistics are
found digit by digit: a radix selection, which reads the image once for every 16 bits of a value.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.normalise import (
    PERCENTILES,
    ValueRange,
    compute_histogram,
    find_extremes,
    is_countable,
    percentiles_of_histogram,
    resolve_ranges,
)
from segserve.types import Normalise

# Reads the image from the start: [h, W, C] from top to bottom.
Bands = Callable[[], Iterable[NDArray[Any]]]
_DIGIT = 16  # bits


def find_value_ranges(bands: Bands, how: Normalise) -> list[ValueRange]:
    """(low, high) of every channel, as `scale.to_uint8` would find them. Raises BadInput where nothing is
    finite."""
    return resolve_ranges(_percentiles(bands) if how is Normalise.PERCENTILE else _extremes(bands), how)


def _extremes(bands: Bands) -> list[ValueRange | None]:
    found: list[ValueRange | None] = []
    for band in bands():
        here = [find_extremes(band[:, :, channel]) for channel in range(band.shape[2])]
        found = [_wider(*pair) for pair in zip(found, here, strict=True)] if found else here
    return found


def _wider(a: ValueRange | None, b: ValueRange | None) -> ValueRange | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def _percentiles(bands: Bands) -> list[ValueRange | None]:
    first = next(iter(bands()))
    if not is_countable(first):
        return [_selected(bands, channel) for channel in range(first.shape[2])]
    counts = [np.zeros(np.iinfo(first.dtype).max + 1, np.int64) for _ in range(first.shape[2])]
    for band in bands():
        for channel, total in enumerate(counts):
            total += compute_histogram(band[:, :, channel])
    return [percentiles_of_histogram(total, PERCENTILES) for total in counts]


def _selected(bands: Bands, channel: int) -> ValueRange | None:
    """The percentiles of a channel, interpolated as np.percentile does by default."""
    count = sum(int(np.isfinite(band[:, :, channel]).sum()) for band in bands())
    if not count:
        return None
    places = np.asarray(PERCENTILES) / 100 * (count - 1)
    ranks = sorted({int(rank) for place in places for rank in (np.floor(place), np.ceil(place))})
    found = dict(zip(ranks, _order_statistics(bands, channel, ranks), strict=True))
    low, high = (
        found[int(np.floor(place))] * (1 - place % 1) + found[int(np.ceil(place))] * (place % 1)
        for place in places
    )
    return float(low), float(high)


def _order_statistics(bands: Bands, channel: int, ranks: list[int]) -> list[float]:
    """The values at these places, from 0, of all finite ones in ascending order."""
    dtype = next(iter(bands())).dtype
    bits = 8 * dtype.itemsize
    prefixes, left = [0] * len(ranks), list(ranks)
    for shift in range(bits - min(bits, _DIGIT), -1, -_DIGIT):
        counts = {prefix: np.zeros(1 << min(bits, _DIGIT), np.int64) for prefix in prefixes}
        for band in bands():
            keys = _ordered(band[:, :, channel])
            for prefix, total in counts.items():
                # Shifted in two steps: a shift by all bits of a number is not defined.
                same = keys[(keys >> np.uint64(shift) >> np.uint64(_DIGIT)) == prefix]
                digits = (same >> np.uint64(shift)) & np.uint64(len(total) - 1)
                total += np.bincount(digits.astype(np.int64), minlength=len(total))
        for index, prefix in enumerate(prefixes):
            below = np.cumsum(counts[prefix])
            digit = int(np.searchsorted(below, left[index], side="right"))
            left[index] -= int(below[digit - 1]) if digit else 0
            prefixes[index] = prefix << _DIGIT | digit
    return [_value(key, dtype) for key in prefixes]


def _ordered(values: NDArray[Any]) -> NDArray[np.uint64]:
    """The finite values of [h, W] as unsigned numbers in the same order."""
    finite = values[np.isfinite(values)]
    bits = 8 * finite.itemsize
    keys = np.ascontiguousarray(finite).view(f"u{finite.itemsize}").astype(np.uint64)
    sign = np.uint64(1 << (bits - 1))
    if finite.dtype.kind == "i":
        keys ^= sign
    elif finite.dtype.kind == "f":  # negative ones ascend the other way round
        keys ^= np.where(keys & sign, np.uint64((1 << bits) - 1), sign)
    return keys


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The inverse of `_ordered`."""
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)
    if dtype.kind == "i" or (dtype.kind == "f" and key & sign):
        key ^= sign
    elif dtype.kind == "f":
        key ^= (1 << bits) - 1
    return float(np.array([key], np.uint64).astype(f"u{dtype.itemsize}").view(dtype)[0])
