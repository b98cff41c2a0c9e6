"""Upscale low-res logits to a mask of the original image (bilinear), computed only where the mask's edge can be.

Bilinear resizing is linear and separable, and cropping is a selection of rows. So all that a model family does after
its decoder is  out = Ry @ logits @ Rx.T  with one 1-D operator an axis. A row of an operator is a convex combination
of at most four low-res values. Hence a block of output pixels that reads only positive logits is all ones, and one
that reads none is all zeros. Only the blocks in between need the product, and only over the few low-res values that
they read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from segserve.masks.block_crop import BLOCK_PX, BlockCrop
from segserve.masks.crop import empty_crop, trim_crop
from segserve.masks.geometry import bounding_box
from segserve.types import Bool, Crop, Float32, Size

Int = NDArray[np.int64]

# A mask of more blocks, a megapixel, is kept in blocks. A smaller one has its pixels at once, which costs fewer calls.
MAX_PIXEL_BLOCKS = 256
# So has one whose edge goes through more than this share of its blocks: run lengths of such a block cost three times
# what they cost in pixels.
MAX_EDGE_SHARE = 0.25
# Blocks multiplied at a time: 1 MiB of results, which stays in the L2 cache.
_BATCH_BLOCKS = 64


@dataclass(frozen=True)
class LogitsGeometry:
    """`LogitsGeometry` says how a model's low-res logits lie on the original image. All values are in pixels.

    low: side of the logits.
    square: side of the model's input.
    valid: the part of that input, from its top left corner, that shows the image.
    original: the image itself.
    """

    low: int
    square: int
    valid: Size
    original: Size

    @property
    def valid_low(self) -> tuple[int, int]:
        """Rows and columns of the low-res logits that show the image; the others are padding."""
        rows, columns = (-(-side * self.low // self.square) for side in (self.valid.height, self.valid.width))
        return rows, columns

    @classmethod
    def padded(cls, original: Size, square: int, low: int) -> Self:
        """Return the geometry of SAM 1: the longest side becomes `square`, the rest is padded at the bottom and right.

        The rounding is that of `ResizeLongestSide.get_preprocess_shape` of facebookresearch/segment-anything,
        except that a side never becomes 0.
        """
        scale = square * 1.0 / max(original.height, original.width)
        valid = Size(*(max(1, int(side * scale + 0.5)) for side in (original.height, original.width)))
        return cls(low, square, valid, original)

    @classmethod
    def stretched(cls, original: Size, low: int) -> Self:
        """Return the geometry of SAM 2: the image fills the square, and logits go to its size in one step.

        `square` is set to `low`, which makes the first resizing step the identity.
        """
        return cls(low, low, Size(low, low), original)


@dataclass(frozen=True)
class _Resize:
    """`_Resize` is a 1-D resize operator in blocks of BLOCK_PX outputs.

    weights [blocks, BLOCK_PX, taps] float32: rows past the last output are zero.
    first [blocks]: index of the input that a block's first tap reads.
    """

    weights: Float32
    first: Int

    @property
    def taps(self) -> int:
        return int(self.weights.shape[2])

    def inputs(self) -> Int:
        """Return the indices of the inputs that each block reads, [blocks, taps]."""
        return self.first[:, None] + np.arange(self.taps)

    def select_blocks(self, start: int, stop: int) -> "tuple[_Resize, int]":
        """Return the consecutive blocks that read any of the inputs from `start` to `stop` (exclusive).

        The second value is the index of the first such block. Without inputs there are no blocks, and it is 0.
        """
        blocks = np.flatnonzero((self.first < stop) & (self.first + self.taps > start))
        part = slice(int(blocks[0]), int(blocks[-1]) + 1) if blocks.size else slice(0, 0)
        return _Resize(self.weights[part], self.first[part]), part.start


def upscale_mask(logits: Float32, geometry: LogitsGeometry, threshold: float = 0.0) -> Crop:
    """Return where the logits at the original size exceed `threshold`, cut to the bounding box of the ones.

    logits: [low, low] float32, finite.

    The result is that of torch's `F.interpolate(mode="bilinear", align_corners=False)` on a CPU in the family's
    steps, except for pixels so close to the threshold that rounding decides. A float32 position
    in `square` or `valid` pixels has up to 3 roundings, whose sizes depend on the CPU's kernel (see `find_neighbours`).
    """
    _check_shape(logits, geometry)
    shifted = logits - np.float32(threshold)
    rows, columns, row0, column0 = _select_blocks(shifted > 0, geometry)
    if not (rows.first.size and columns.first.size):
        return empty_crop(geometry.original)
    lowest, highest = _find_bounds(shifted, rows, columns)
    if (
        lowest.size > MAX_PIXEL_BLOCKS
        and np.count_nonzero((highest > 0) & (lowest <= 0)) <= MAX_EDGE_SHARE * lowest.size
    ):
        return _compute_crop_in_blocks(
            shifted, rows, columns, lowest > 0, highest > 0, (row0, column0), geometry.original
        )
    pixels = _compute_mask(shifted, rows, columns, lowest > 0, highest > 0)
    y, x = row0 * BLOCK_PX, column0 * BLOCK_PX
    inside = pixels[: geometry.original.height - y, : geometry.original.width - x]
    return trim_crop(Crop(inside, x, y, geometry.original))


@dataclass(frozen=True)
class MaskMeasure:
    """`MaskMeasure` describes a mask at the original size without its pixels.

    area: number of pixels above the threshold.
    inner, outer: number of pixels above the threshold raised and lowered by an offset.
    box: (x0, y0, x1, y1) of the pixels above the threshold, x1 and y1 exclusive; zeros if there are none.
    """

    area: int
    inner: int
    outer: int
    box: tuple[int, int, int, int]


def measure_mask(logits: Float32, geometry: LogitsGeometry, threshold: float, offset: float) -> MaskMeasure:
    """Measure the mask that `upscale_mask` would return.

    logits: [low, low] float32, finite.
    offset: >= 0, added to and subtracted from the threshold for `inner` and `outer`.

    As in `upscale_mask`, only blocks that a level passes through are computed, and few enough at a time to fit the
    cache.
    """
    _check_shape(logits, geometry)
    # Shifted to the lowest level, so that the 0 of values past the last output is above no level.
    shifted = logits - np.float32(threshold - offset)
    rows, columns, row0, column0 = _select_blocks(shifted > 0, geometry)
    if not (rows.first.size and columns.first.size):
        return MaskMeasure(0, 0, 0, (0, 0, 0, 0))
    height = _count_outputs(rows, row0, geometry.original.height)
    width = _count_outputs(columns, column0, geometry.original.width)
    lowest, highest = _find_bounds(shifted, rows, columns)
    levels = np.array([offset, 2 * offset, 0], np.float32)[:, None, None]
    above = lowest > levels
    mixed = np.asarray(((highest > levels) & ~above).any(axis=0))
    areas = ((above & ~mixed) * np.outer(height, width)).sum(axis=(1, 2))
    solid = above[0] & ~mixed
    row_has_ones = solid.any(axis=1)[:, None] & (np.arange(BLOCK_PX) < height[:, None])
    column_has_ones = solid.any(axis=0)[:, None] & (np.arange(BLOCK_PX) < width[:, None])
    for y, x, values in _compute_blocks(shifted, rows, columns, mixed):
        inside = values > levels[0]
        areas += [np.count_nonzero(part) for part in (inside, values > levels[1], values > levels[2])]
        np.logical_or.at(row_has_ones, y, inside.any(axis=2))
        np.logical_or.at(column_has_ones, x, inside.any(axis=1))
    y0, y1 = _find_ends(row_has_ones, row0)
    x0, x1 = _find_ends(column_has_ones, column0)
    return MaskMeasure(int(areas[0]), int(areas[1]), int(areas[2]), (x0, y0, x1, y1))


def _find_ends(ones: Bool, first_block: int) -> tuple[int, int]:
    """Return the first and the last (exclusive) output that is one, of blocks [blocks, BLOCK_PX]; zeros if none is."""
    indices = np.flatnonzero(ones)
    if not indices.size:
        return 0, 0
    return BLOCK_PX * first_block + int(indices[0]), BLOCK_PX * first_block + int(indices[-1]) + 1


def upscale_logits(logits: Float32, geometry: LogitsGeometry) -> Float32:
    """Return the logits [H, W] float32 at the original size. logits: [low, low] float32, finite."""
    _check_shape(logits, geometry)
    rows, columns = _resize_operators(geometry)
    canvas, blocks = _allocate_blocks(rows, columns, np.float32)
    all_blocks = np.ones((rows.first.size, columns.first.size), np.bool_)
    _fill(blocks, logits, rows, columns, all_blocks)
    return canvas[: geometry.original.height, : geometry.original.width]


def _check_shape(logits: Float32, geometry: LogitsGeometry) -> None:
    if logits.shape != (geometry.low, geometry.low):
        raise ValueError(f"logits of shape {logits.shape} do not fit a low-res side of {geometry.low}")


def _select_blocks(positive: Bool, geometry: LogitsGeometry) -> tuple[_Resize, _Resize, int, int]:
    """Return the blocks of rows and of columns that read any positive logit, and the index of the first of each."""
    x0, y0, x1, y1 = bounding_box(positive)
    rows, columns = _resize_operators(geometry)
    rows, row0 = rows.select_blocks(y0, y1)
    columns, column0 = columns.select_blocks(x0, x1)
    return rows, columns, row0, column0


def _compute_mask(logits: Float32, rows: _Resize, columns: _Resize, ones: Bool, some: Bool) -> Bool:
    """Return where the blocks' outputs are positive, [row blocks * BLOCK_PX, column blocks * BLOCK_PX] bool.

    ones, some: as in `_compute_crop_in_blocks`.
    """
    canvas, blocks = _allocate_blocks(rows, columns, np.bool_)
    y, x = np.nonzero(ones)
    blocks[y, :, x, :] = True
    _fill(blocks, logits, rows, columns, some & ~ones)
    return canvas


def _compute_crop_in_blocks(
    logits: Float32,
    rows: _Resize,
    columns: _Resize,
    ones: Bool,
    some: Bool,
    first: tuple[int, int],
    size: Size,
) -> Crop:
    """Return where the blocks' outputs are positive, without the pixels of blocks that are ones alone.

    ones, some: [row blocks, column blocks], which blocks read positive logits alone, and which read any.
    first: row and column, on the image of `size`, of the first block.
    """
    row0, column0 = first
    is_whole = np.outer(
        _count_outputs(rows, row0, size.height) == BLOCK_PX,
        _count_outputs(columns, column0, size.width) == BLOCK_PX,
    )
    solid = ones & is_whole
    parts = list(_compute_blocks(logits, rows, columns, some & ~solid))
    y, x = (np.concatenate([part[axis] for part in parts] or [np.empty(0, np.int64)]) for axis in (0, 1))
    bits = np.concatenate([np.zeros((0, BLOCK_PX, BLOCK_PX), np.bool_), *(part[2] > 0 for part in parts)])
    if not (solid.any() or bits.any()):
        return empty_crop(size)
    return BlockCrop(solid, y, x, bits, row=row0, column=column0, size=size)


def _count_outputs(blocks: _Resize, first: int, outputs: int) -> Int:
    """Return how many outputs each block has; those past the last output of the image do not count.

    first: the index, on the image, of the first block. outputs: of the image.
    """
    return np.clip(outputs - BLOCK_PX * (first + np.arange(blocks.first.size)), 0, BLOCK_PX)


def _find_bounds(logits: Float32, rows: _Resize, columns: _Resize) -> tuple[Float32, Float32]:
    """Return the lowest and the highest logit that each block reads, [row blocks, column blocks] each.

    The block's outputs lie between them.
    """
    inputs_y, inputs_x = rows.inputs(), columns.inputs()
    lowest = logits[inputs_y].min(axis=1)[:, inputs_x].min(axis=2)
    return lowest, logits[inputs_y].max(axis=1)[:, inputs_x].max(axis=2)


def _allocate_blocks(rows: _Resize, columns: _Resize, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a zeroed image that holds all blocks, and a view of it as [blocks, BLOCK_PX, blocks, BLOCK_PX]."""
    down, across = rows.first.size, columns.first.size
    canvas: NDArray[Any] = np.zeros((down * BLOCK_PX, across * BLOCK_PX), dtype)
    return canvas, canvas.reshape(down, BLOCK_PX, across, BLOCK_PX)


def _fill(blocks: NDArray[Any], logits: Float32, rows: _Resize, columns: _Resize, selected: Bool) -> None:
    """Compute the `selected` [row blocks, column blocks] blocks. A bool image gets values > 0."""
    for y, x, values in _compute_blocks(logits, rows, columns, selected):
        blocks[y, :, x, :] = values > 0 if blocks.dtype == np.bool_ else values


def _compute_blocks(
    logits: Float32, rows: _Resize, columns: _Resize, selected: Bool
) -> Iterator[tuple[Int, Int, NDArray[Any]]]:
    """Yield the outputs of the `selected` [row blocks, column blocks] blocks, some blocks at a time.

    Yields the blocks' indices y [n] and x [n], and their values [n, BLOCK_PX, BLOCK_PX], 0 past the last output.
    """
    patches = sliding_window_view(logits, (rows.taps, columns.taps))
    block_y, block_x = (indices.astype(np.int64) for indices in np.nonzero(selected))
    for start in range(0, block_y.size, _BATCH_BLOCKS):
        y, x = block_y[start : start + _BATCH_BLOCKS], block_x[start : start + _BATCH_BLOCKS]
        patch = patches[rows.first[y], columns.first[x]]
        yield y, x, rows.weights[y] @ patch @ columns.weights[x].transpose(0, 2, 1)


def _resize_operators(geometry: LogitsGeometry) -> tuple[_Resize, _Resize]:
    """Return the operators of the rows and of the columns."""
    low, square, valid, original = geometry.low, geometry.square, geometry.valid, geometry.original
    return (
        _resize_operator(low, square, valid.height, original.height),
        _resize_operator(low, square, valid.width, original.width),
    )


@lru_cache(maxsize=128)  # about 100 KB each for 4000 outputs
def _resize_operator(low: int, square: int, valid: int, out: int) -> _Resize:
    """Return the operator that resizes `low` values to `square`, and the first `valid` of those to `out`."""
    inner, inner_weight = find_neighbours(low, square)
    outer, outer_weight = find_neighbours(valid, out)
    index = inner[outer].reshape(out, 4)
    weight = (outer_weight[:, :, None] * inner_weight[outer]).reshape(out, 4)

    starts = np.arange(0, out, BLOCK_PX)
    lowest = np.minimum.reduceat(index.min(axis=1), starts)
    highest = np.maximum.reduceat(index.max(axis=1), starts)
    taps = int((highest - lowest).max()) + 1
    first = np.minimum(lowest, low - taps)

    weights = np.zeros((starts.size * BLOCK_PX, taps))
    output = np.arange(out)
    for tap in range(4):
        # Each output has its own row, so no element occurs twice in one addition.
        weights[output, index[:, tap] - first[output // BLOCK_PX]] += weight[:, tap]
    return _Resize(weights.astype(np.float32).reshape(starts.size, BLOCK_PX, taps), first)


def find_neighbours(source: int, target: int) -> tuple[Int, NDArray[np.float64]]:
    """Return the two inputs of each output in bilinear resizing, and their weights, [target, 2] each.

    This is PyTorch's `area_pixel_compute_source_index` (aten/src/ATen/native/UpSample.h) without align_corners.
    PyTorch computes positions in float32. At 1024 their rounding is worth 1e-4 of a pixel, so it is repeated here.
    Some of its kernels, depending on the CPU and the size, round once instead of twice (a fused multiply-add). They
    are not imitated.
    """
    scale = np.float32(source) / np.float32(target)
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    index = np.minimum(position.astype(np.int64), source - 1)
    far = np.clip(position - index, 0.0, 1.0)
    return np.stack([index, np.minimum(index + 1, source - 1)], axis=1), np.stack([1 - far, far], axis=1)
