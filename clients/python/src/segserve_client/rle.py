"""COCO's compressed run-length encoding (RLE) of masks, in numpy alone, both ways.

The runs go down the columns and alternate between zeros and ones, zeros first. From the fourth run on, a count is
stored as its difference to the count two before. A number is written as groups of 5 bits, lowest first, in two's
complement: each character is 48 plus the group, plus 32 if more groups follow. Source: common/maskApi.c of cocoapi.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int = NDArray[np.int64]

_GROUP_BITS = 5
_MORE_BIT = 0x20
_SIGN_BIT = 0x10
_CHARACTER_OFFSET = 48


@dataclass(frozen=True)
class Rle:
    """A binary mask as run lengths. size: height and width in pixels. counts: as pycocotools writes them."""

    size: tuple[int, int]
    counts: str

    @cached_property
    def array(self) -> Bool:
        """The mask, bool [height, width]."""
        return decode(self.counts, self.size)

    @classmethod
    def from_array(cls, mask: NDArray[np.generic]) -> Rle:
        """mask: [height, width]; what is not 0 is the object. Raises ValueError for other shapes."""
        if np.ndim(mask) != 2:
            raise ValueError(f"a mask is [height, width], not {np.shape(mask)}")
        return cls((mask.shape[0], mask.shape[1]), encode(mask))


def encode(mask: NDArray[np.generic]) -> str:
    """Return the counts of a mask [height, width]; what is not 0 is the object."""
    flat = np.asarray(mask, np.bool_).ravel(order="F")
    if not flat.size:
        return ""
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begin = [0, 0] if flat[0] else [0]  # zeros come first, though there be none
    ends: Int = np.concatenate([begin, changes, [flat.size]]).astype(np.int64)
    return _to_string(ends[1:] - ends[:-1])


def decode(counts: str, size: tuple[int, int]) -> Bool:
    """Return the mask, bool [height, width], of COCO's compressed counts.

    Raises ValueError where they are no run lengths of this size.
    """
    height, width = size
    runs = _from_string(counts)
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"the run lengths are not those of a mask of {height} x {width}")
    ones = np.arange(runs.size) % 2 == 1
    return np.repeat(ones, runs).reshape(width, height).T


def _to_string(runs: Int) -> str:
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


def _from_string(counts: str) -> Int:
    groups = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - _CHARACTER_OFFSET
    if not groups.size:
        return np.zeros(1, np.int64)
    last = np.flatnonzero(groups < _MORE_BIT)
    if ((groups < 0) | (groups >= 2 * _MORE_BIT)).any() or not last.size or last[-1] != groups.size - 1:
        raise ValueError("the counts are no run lengths")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    places = np.arange(groups.size) - np.repeat(first, lengths)
    if (places > 8).any():
        raise ValueError("the counts are no run lengths")
    runs = np.add.reduceat((groups & (_MORE_BIT - 1)) << (_GROUP_BITS * places), first)
    runs -= np.where(groups[last] & _SIGN_BIT, np.int64(1) << (_GROUP_BITS * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
