"""COCO's compressed run-length encoding (RLE) of masks, as pycocotools writes and reads it.

The runs go down the columns and alternate between zeros and ones, zeros first. From the fourth run on, a count is
stored as its difference to the count two before. A number is written as groups of 5 bits, lowest first, in two's
complement: each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi,
`rleToString` and `rleFrString`. That C code trusts its input, so it cannot decode strings from clients; this one can.
"""

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.masks.block_crop import BlockCrop
from segserve.types import Bool, Crop, Size

Int = NDArray[np.int64]

_GROUP_BITS = 5
# Set in a character if more groups of the number follow.
_MORE_BIT = 0x20
# The highest bit of a number's last group.
_SIGN_BIT = 0x10
# Added to a group to make it a printable character.
_CHARACTER_OFFSET = 48
# 40 bits with their sign: more than any image here has pixels.
_MAX_GROUPS = 8

_REMEDY = (
    "Send the 'counts' string of a compressed COCO RLE made for a mask of exactly {} x {} (height x width)."
)


def encode(crop: Crop) -> str:
    """Return the counts string of the whole image's mask, without building that mask."""
    pixels = crop.size.height * crop.size.width
    return _to_string(np.diff(_find_changes(crop), prepend=0, append=pixels))


def decode(counts: str, size: Size, field: str = "mask") -> Bool:
    """Return the mask [H, W] bool, in column-major order, of a counts string that need not be trusted.

    The caller must have checked `size` against its limits. Memory stays within a small multiple of its pixels.
    Raises BadInput about `field` for anything that is not a run-length encoding of exactly `size`.
    """
    lengths = _decode_lengths(counts, size, field)
    ones = np.arange(lengths.size) % 2 == 1
    return np.repeat(ones, lengths).reshape(size.width, size.height).T


def decode_runs(counts: str, size: Size, field: str = "mask") -> Int:
    """Return [n, 2]: where each run of ones begins and ends (exclusive) in column-major order.

    Raises BadInput as `decode` does.
    """
    ends = np.cumsum(_decode_lengths(counts, size, field))
    paired = ends[: ends.size // 2 * 2]
    return paired.reshape(-1, 2)


def _decode_lengths(counts: str, size: Size, field: str) -> Int:
    """Return the lengths of all runs, of zeros and ones in turn. Raises BadInput."""
    try:
        return _from_string(counts, size.height * size.width)
    except _Malformed as error:
        remedy = _REMEDY.format(size.height, size.width)
        raise BadInput(f"The run lengths are malformed: {error}.", remedy=remedy, field=field) from None


class _Malformed(Exception):
    """A counts string that breaks the format; the message says in which way."""


def _find_changes(crop: Crop) -> Int:
    """Return the ascending column-major positions in the image where the value differs from the one before."""
    full = crop.size.height
    if isinstance(crop, BlockCrop):
        changes, height = crop.find_changes(), crop.box[3] - crop.box[1]
    else:
        changes, height = _find_changes_of_pixels(crop), len(crop.pixels)
    if height == full:
        changes = _drop_pairs(changes)
    return changes[:-1] if changes.size and changes[-1] == full * crop.size.width else changes


def _find_changes_of_pixels(crop: Crop) -> Int:
    """Return what `BlockCrop.find_changes` returns, of a crop's pixels."""
    if not crop.pixels.size:
        return np.empty(0, np.int64)
    height, width = crop.pixels.shape
    # Compare in memory order and sort afterwards: transposing the pixels takes ten times as long.
    edges = np.empty((height + 1, width), np.bool_)
    edges[0], edges[-1] = crop.pixels[0], crop.pixels[-1]
    np.not_equal(crop.pixels[1:], crop.pixels[:-1], out=edges[1:-1])
    row, column = np.divmod(np.flatnonzero(edges), width)
    return np.sort((column + crop.x) * crop.size.height + row + crop.y)


def _drop_pairs(ascending: Int) -> Int:
    """Drop values that occur twice: there a run ends at the foot of a column and the next column's begins."""
    differs = np.diff(ascending, prepend=-1, append=-1) != 0
    single: Int = ascending[differs[1:] & differs[:-1]]
    return single


def _to_string(runs: Int) -> str:
    """Return the counts string of the lengths of all runs, zeros first."""
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    characters: list[NDArray[np.uint8]] = []
    present: list[Bool] = []
    active = np.ones(numbers.size, np.bool_)
    while active.any():
        group = numbers & (_MORE_BIT - 1)
        numbers >>= _GROUP_BITS
        # A number is complete once only copies of the last group's sign are left.
        more = numbers != np.where(group & _SIGN_BIT, -1, 0)
        characters.append((group + np.where(more, _MORE_BIT, 0) + _CHARACTER_OFFSET).astype(np.uint8))
        present.append(active)
        active = active & more
    return np.stack(characters, axis=1)[np.stack(present, axis=1)].tobytes().decode("ascii")


def _from_string(counts: str, pixels: int) -> Int:
    """Return the lengths of the runs, each >= 0, with the sum `pixels`. Raises _Malformed."""
    # n runs with differences d take at most n + sum|d|/16 characters, n <= pixels + 1 and sum|d| <= 2 pixels.
    # The rest of the bound leaves room for runs of length 0.
    if len(counts) > 2 * pixels + 16:
        raise _Malformed("there are more characters than the mask can need")
    runs = _read_numbers(counts)
    # Checked before any sum, so that no sum can overflow.
    if (np.abs(runs) > pixels).any():
        raise _Malformed("a run is longer than the mask")
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if (runs < 0).any():
        raise _Malformed("a run is negative")
    if (runs > pixels).any() or int(runs.sum()) != pixels:
        raise _Malformed(f"the runs do not add up to {pixels} pixels")
    return runs


def _read_numbers(counts: str) -> Int:
    """Return the signed numbers of a counts string. Raises _Malformed."""
    try:
        groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _CHARACTER_OFFSET
    except UnicodeEncodeError:
        raise _Malformed("a character is not ASCII") from None
    if not groups.size:
        raise _Malformed("they are empty")
    if ((groups < 0) | (groups >= 2 * _MORE_BIT)).any():
        raise _Malformed("a character is not between '0' and 'o'")
    last = np.flatnonzero(groups < _MORE_BIT)
    if not last.size or last[-1] != groups.size - 1:
        raise _Malformed("they end in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if (lengths > _MAX_GROUPS).any():
        raise _Malformed("a number has too many characters")
    group_index = np.arange(groups.size) - np.repeat(first, lengths)
    numbers = np.add.reduceat((groups & (_MORE_BIT - 1)) << (_GROUP_BITS * group_index), first)
    negative = (groups[last] & _SIGN_BIT) != 0
    return numbers - np.where(negative, np.int64(1) << (_GROUP_BITS * lengths), 0)
