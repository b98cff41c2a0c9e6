"""Masks of volumes: run lengths of the slices that are not empty, so that hundreds of them take little memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segserve.masks import crop, rle
from segserve.masks.geometry import bounding_box
from segserve.types import Bool, Size

Shape: TypeAlias = tuple[int, int, int]
# Where a part of an array begins and ends (exclusive), by axis.
ArrayBox: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class VolumeMask:
    """`VolumeMask` is the mask of one object in a volume.

    shape: of the volume's array. axis: of the array, along which the slices follow each other.
    counts: COCO run lengths by slice. A slice that is not there is empty.
    """

    shape: Shape
    axis: int = 0
    counts: Mapping[int, str] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        """The size of a slice."""
        return slice_size(self.shape, self.axis)

    @property
    def text_bytes(self) -> int:
        """Memory of the run lengths."""
        return sum(map(len, self.counts.values()))

    def read_slice(self, index: int) -> Bool:
        """Return a slice [H, W]. Takes a millisecond for 512 x 512 pixels."""
        counts = self.counts.get(index)
        size = self.size
        return np.zeros((size.height, size.width), np.bool_) if counts is None else rle.decode(counts, size)

    def contains(self, coordinates: NDArray[np.int64]) -> Bool:
        """Return [N], whether the mask has the voxels [N, 3] of the array. Blocks."""
        inside = np.zeros(len(coordinates), np.bool_)
        indices, rest = coordinates[:, self.axis], np.delete(coordinates, self.axis, axis=1)
        for index in np.unique(indices):
            is_here = indices == index
            rows, columns = rest[is_here].T
            inside[is_here] = self.read_slice(int(index))[rows, columns]
        return inside


def slice_size(shape: Shape, axis: int) -> Size:
    height, width = (side for number, side in enumerate(shape) if number != axis)
    return Size(height, width)


def encode_slices(mask: NDArray[Any], axis: int) -> VolumeMask:
    """Return the mask of an array [Z, Y, X], whose values other than 0 are on the object. Blocks."""
    slices = np.moveaxis(mask, axis, 0)
    counts = {
        index: rle.encode(crop.from_mask(values != 0)) for index, values in enumerate(slices) if values.any()
    }
    first, second, third = mask.shape
    return VolumeMask((first, second, third), axis, counts)


def find_change(before: VolumeMask, after: VolumeMask) -> ArrayBox | None:
    """Return the smallest box around the voxels that differ; None if none does. Blocks.

    It may be larger where the slices of one mask lie across those of the other.
    """
    if before.axis != after.axis:
        extents = [find_change(VolumeMask(mask.shape, mask.axis), mask) for mask in (before, after)]
        return join_boxes([extent for extent in extents if extent is not None])
    boxes = []
    for index in before.counts.keys() | after.counts.keys():
        if before.counts.get(index) != after.counts.get(index):
            x0, y0, x1, y1 = bounding_box(before.read_slice(index) ^ after.read_slice(index))
            if x0 < x1:
                boxes.append(to_array_box(after.axis, index, (y0, y1), (x0, x1)))
    return join_boxes(boxes)


def to_array_box(axis: int, index: int, rows: tuple[int, int], columns: tuple[int, int]) -> ArrayBox:
    sides = [rows, columns]
    sides.insert(axis, (index, index + 1))
    return sides[0], sides[1], sides[2]


def join_boxes(boxes: list[ArrayBox]) -> ArrayBox | None:
    """Return the smallest box around all boxes; None if there are none."""
    if not boxes:
        return None
    bounds = np.array(boxes)
    low, high = bounds[:, :, 0].min(axis=0).tolist(), bounds[:, :, 1].max(axis=0).tolist()
    return (low[0], high[0]), (low[1], high[1]), (low[2], high[2])


def cut_box(mask: VolumeMask, box: ArrayBox) -> NDArray[np.uint8]:
    """Return a part of the mask, 1 on the object and 0 elsewhere. Blocks."""
    part = np.zeros([end - begin for begin, end in box], np.uint8)
    slices = np.moveaxis(part, mask.axis, 0)
    begin, end = box[mask.axis]
    (y0, y1), (x0, x1) = (side for number, side in enumerate(box) if number != mask.axis)
    for index in mask.counts:
        if begin <= index < end:
            slices[index - begin] = mask.read_slice(index)[y0:y1, x0:x1]
    return part
