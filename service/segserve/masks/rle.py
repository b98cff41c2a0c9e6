"""COCO's compressed run lengths, as pycocotools writes and reads them.

Runs go down the columns, of zeros and ones in turn, zeros first. From the fourth on, a count is stored as its
difference to the one two before. A number is written as groups of 5 bits, lowest first, in two's complement:
each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi,
`rleToString` and `rleFrString`. This one is our own because that C code trusts what it is given.
"""

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.types import Bool, Crop, Size

Int = NDArray[np.int64]

_GROUP_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_OFFSET = 48
_MAX_GROUPS = 8  # 40 bits with their sign: more than any image here has pixels

_REMEDY = (
    "Send the 'counts' string of a compressed COCO RLE made for a mask of exactly {} x {} (height x width)."
)


def encode(crop: Crop) -> str:
    """The counts string of the whole image's mask, made without building that mask."""
    pixels = crop.size.height * crop.size.width
    return _to_string(np.diff(_changes(crop), prepend=0, append=pixels))


def decode(counts: str, size: Size, field: str = "mask") -> Bool:
    """The mask [H, W] bool, in column-major order, of a counts string that need not be trusted.

    The caller has checked `size` against its limits; memory stays within a small multiple of its pixels.
    Raises BadInput about `field` for whatever is not a run-length coding of exactly `size`.
    """
    lengths = _checked(counts, size, field)
    ones = np.arange(lengths.size) % 2 == 1
    return np.repeat(ones, lengths).reshape(size.width, size.height).T


def runs(counts: str, size: Size, field: str = "mask") -> Int:
    """[n, 2]: where each run of ones begins and ends in column-major order. Raises BadInput as `decode` does."""
    ends = np.cumsum(_checked(counts, size, field))
    whole = ends[: ends.size // 2 * 2]
    return whole.reshape(-1, 2)


def _checked(counts: str, size: Size, field: str) -> Int:
    """The lengths of all runs, of zeros and ones in turn. Raises BadInput."""
    try:
        return _from_string(counts, size.height * size.width)
    except _Malformed as error:
        remedy = _REMEDY.format(size.height, size.width)
        raise BadInput(f"The run lengths are malformed: {error}.", remedy=remedy, field=field) from None


class _Malformed(Exception):
    """Says what is wrong with a counts string."""


def _changes(crop: Crop) -> Int:
    """Where the value differs from the one before in column-major order, ascending, within the image."""
    height, width = crop.pixels.shape
    full = crop.size.height
    # Compared as they lie in memory and sorted afterwards: transposing the pixels takes ten times as long.
    edges = np.empty((height + 1, width), np.bool_)
    if height:
        edges[0], edges[-1] = crop.pixels[0], crop.pixels[-1]
        np.not_equal(crop.pixels[1:], crop.pixels[:-1], out=edges[1:-1])
    row, column = np.divmod(np.flatnonzero(edges), max(width, 1))
    changes = np.sort((column + crop.x) * full + row + crop.y)
    if height == full:
        changes = _without_pairs(changes)
    return changes[:-1] if changes.size and changes[-1] == full * crop.size.width else changes


def _without_pairs(ascending: Int) -> Int:
    """Drops values that occur twice: a run ends at the foot of a column where the next column's begins."""
    differs = np.diff(ascending, prepend=-1, append=-1) != 0
    alone: Int = ascending[differs[1:] & differs[:-1]]
    return alone


def _to_string(runs: Int) -> str:
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    characters: list[NDArray[np.uint8]] = []
    present: list[Bool] = []
    active = np.ones(numbers.size, np.bool_)
    while active.any():
        group = numbers & (_MORE - 1)
        numbers >>= _GROUP_BITS
        # A number is complete once what is left is nothing but the sign of the last group.
        more = numbers != np.where(group & _SIGN, -1, 0)
        characters.append((group + np.where(more, _MORE, 0) + _OFFSET).astype(np.uint8))
        present.append(active)
        active = active & more
    return np.stack(characters, axis=1)[np.stack(present, axis=1)].tobytes().decode("ascii")


def _from_string(counts: str, pixels: int) -> Int:
    """The runs, each >= 0, their sum being `pixels`."""
    # n runs with differences d take at most n + sum|d|/16 characters, n <= pixels + 1 and sum|d| <= 2 pixels.
    # The rest of the bound leaves room for runs of 0.
    if len(counts) > 2 * pixels + 16:
        raise _Malformed("there are more characters than the mask can need")
    runs = _numbers(counts)
    # Checked first, so that no sum below can overflow.
    if (np.abs(runs) > pixels).any():
        raise _Malformed("a run is longer than the mask")
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if (runs < 0).any():
        raise _Malformed("a run is negative")
    if (runs > pixels).any() or int(runs.sum()) != pixels:
        raise _Malformed(f"the runs do not add up to {pixels} pixels")
    return runs


def _numbers(counts: str) -> Int:
    """The signed numbers of a string of groups."""
    try:
        groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _OFFSET
    except UnicodeEncodeError:
        raise _Malformed("a character is not ASCII") from None
    if not groups.size:
        raise _Malformed("they are empty")
    if ((groups < 0) | (groups >= 2 * _MORE)).any():
        raise _Malformed("a character is not between '0' and 'o'")
    last = np.flatnonzero(groups < _MORE)
    if not last.size or last[-1] != groups.size - 1:
        raise _Malformed("they end in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if (lengths > _MAX_GROUPS).any():
        raise _Malformed("a number has too many characters")
    place = np.arange(groups.size) - np.repeat(first, lengths)
    numbers = np.add.reduceat((groups & (_MORE - 1)) << (_GROUP_BITS * place), first)
    negative = (groups[last] & _SIGN) != 0
    return numbers - np.where(negative, np.int64(1) << (_GROUP_BITS * lengths), 0)
