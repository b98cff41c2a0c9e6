"""Low-res logits to a mask of the original image, computed only where its edge can be.

Bilinear resizing is linear and separable and cropping is a selection of rows, so all that a model family
does after its decoder is  out = Ry @ logits @ Rx.T  with one 1-D operator an axis. A row of an operator
is a convex combination of at most four low-res values. Hence a block of output pixels that sees only
positive logits is all ones, one that sees none is all zeros, and only the blocks in between need the
product. They need it over the few low-res values they see, not over all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from segserve.masks.crop import empty, trim
from segserve.types import Bool, Crop, Float32, Size

Int = NDArray[np.int64]

BLOCK_PX = 64  # output pixels a side; smaller ones follow the edge more closely but cost more calls
_BATCH = 64  # mixed blocks multiplied at a time: 1 MiB of results, which stays in the L2 cache


@dataclass(frozen=True)
class LogitsGeometry:
    """How a model's low-res logits lie on the original image.

    low: side of the logits. square: side of the model's input. valid: the part of that input, from its top
    left corner, that shows the image. original: the image itself. All in pixels.
    """

    low: int
    square: int
    valid: Size
    original: Size

    @classmethod
    def padded(cls, original: Size, square: int, low: int) -> Self:
        """SAM 1: the longest side becomes `square`, the rest is padded at the bottom and the right.

        The rounding is that of `ResizeLongestSide.get_preprocess_shape` of facebookresearch/segment-anything,
        except that a side never becomes 0.
        """
        scale = square * 1.0 / max(original.height, original.width)
        valid = Size(*(max(1, int(side * scale + 0.5)) for side in (original.height, original.width)))
        return cls(low, square, valid, original)

    @classmethod
    def stretched(cls, original: Size, low: int) -> Self:
        """SAM 2: the image fills the square in both directions, and logits go to its size in one step.

        The square is then of no concern; a first step from `low` to `low` is the identity.
        """
        return cls(low, low, Size(low, low), original)


@dataclass(frozen=True)
class _Operator:
    """A 1-D resize in blocks of BLOCK outputs.

    weights [blocks, BLOCK, taps] float32, rows past the last output zero; first [blocks]: the input that
    the first tap of a block means.
    """

    weights: Float32
    first: Int

    @property
    def taps(self) -> int:
        return int(self.weights.shape[2])

    def seen(self) -> Int:
        """The inputs that each block sees, [blocks, taps]."""
        return self.first[:, None] + np.arange(self.taps)

    def seeing(self, wanted: Int) -> "tuple[_Operator, int]":
        """The blocks that see anything from the first to the last input wanted, and their first's number."""
        blocks = np.zeros(0, np.int64)
        if wanted.size:
            blocks = np.flatnonzero((self.first <= wanted[-1]) & (self.first + self.taps > wanted[0]))
        part = slice(int(blocks[0]), int(blocks[-1]) + 1) if blocks.size else slice(0, 0)
        return _Operator(self.weights[part], self.first[part]), part.start


def upscale_mask(logits: Float32, geometry: LogitsGeometry, threshold: float = 0.0) -> Crop:
    """Where the logits at the original size exceed `threshold`, cut to the bounding box of the ones.

    logits [low, low] float32, finite. The result is that of torch's `F.interpolate(mode="bilinear",
    align_corners=False)` on a CPU in the family's steps, save for pixels so close to the threshold that
    rounding decides: within 1e-5 for logits in the tens, within 1e-3 if height + width <= 128 (see `find_neighbours`).
    """
    _check(logits, geometry)
    shifted = logits - np.float32(threshold)
    positive = shifted > 0
    of_rows, of_columns = _operators(geometry)
    rows, row0 = of_rows.seeing(np.flatnonzero(positive.any(axis=1)))
    columns, column0 = of_columns.seeing(np.flatnonzero(positive.any(axis=0)))
    if not (rows.first.size and columns.first.size):
        return empty(geometry.original)
    pixels = _mask(shifted, rows, columns)
    y, x = row0 * BLOCK_PX, column0 * BLOCK_PX
    inside = pixels[: geometry.original.height - y, : geometry.original.width - x]
    return trim(Crop(inside, x, y, geometry.original))


@dataclass(frozen=True)
class MaskMeasure:
    """What can be said of a mask at the original size without keeping its pixels.

    area: pixels above the threshold; inner, outer: above the threshold raised and lowered by an offset.
    box: (x0, y0, x1, y1) of the pixels above the threshold, x1 and y1 exclusive; zeros if there are none.
    """

    area: int
    inner: int
    outer: int
    box: tuple[int, int, int, int]


def measure_mask(logits: Float32, geometry: LogitsGeometry, threshold: float, offset: float) -> MaskMeasure:
    """The mask that `upscale_mask` would give, measured. As there, only blocks that a level passes through are
    computed, and no more of them at once than fit the cache. logits [low, low] float32, finite; offset >= 0."""
    _check(logits, geometry)
    shifted = logits - np.float32(threshold - offset)  # values past the last output, 0, are above no level
    of_rows, of_columns = _operators(geometry)
    positive = shifted > 0
    rows, row0 = of_rows.seeing(np.flatnonzero(positive.any(axis=1)))
    columns, column0 = of_columns.seeing(np.flatnonzero(positive.any(axis=0)))
    if not (rows.first.size and columns.first.size):
        return MaskMeasure(0, 0, 0, (0, 0, 0, 0))
    height = np.clip(geometry.original.height - BLOCK_PX * (row0 + np.arange(rows.first.size)), 0, BLOCK_PX)
    width = np.clip(
        geometry.original.width - BLOCK_PX * (column0 + np.arange(columns.first.size)), 0, BLOCK_PX
    )
    smallest, largest = _bounds(shifted, rows, columns)
    levels = np.array([offset, 2 * offset, 0], np.float32)[:, None, None]
    above = smallest > levels
    mixed = np.asarray(((largest > levels) & ~above).any(axis=0))
    areas = ((above & ~mixed) * np.outer(height, width)).sum(axis=(1, 2))
    sure = above[0] & ~mixed
    down = sure.any(axis=1)[:, None] & (np.arange(BLOCK_PX) < height[:, None])
    across = sure.any(axis=0)[:, None] & (np.arange(BLOCK_PX) < width[:, None])
    for y, x, values in _values(shifted, rows, columns, mixed):
        inside = values > levels[0]
        areas += [np.count_nonzero(part) for part in (inside, values > levels[1], values > levels[2])]
        np.logical_or.at(down, y, inside.any(axis=2))
        np.logical_or.at(across, x, inside.any(axis=1))
    y0, y1 = _ends(down, row0)
    x0, x1 = _ends(across, column0)
    return MaskMeasure(int(areas[0]), int(areas[1]), int(areas[2]), (x0, y0, x1, y1))


def _ends(inside: Bool, first_block: int) -> tuple[int, int]:
    """From where to where (exclusive) blocks of outputs [blocks, BLOCK] are ones; zeros if nowhere."""
    found = np.flatnonzero(inside)
    return (
        (BLOCK_PX * first_block + int(found[0]), BLOCK_PX * first_block + int(found[-1]) + 1)
        if found.size
        else (0, 0)
    )


def upscale_logits(logits: Float32, geometry: LogitsGeometry) -> Float32:
    """The logits [H, W] float32 at the original size; logits [low, low] float32, finite."""
    _check(logits, geometry)
    rows, columns = _operators(geometry)
    canvas, blocks = _canvas(rows, columns, np.float32)
    where = np.ones((rows.first.size, columns.first.size), np.bool_)
    _fill(blocks, logits, rows, columns, where)
    return canvas[: geometry.original.height, : geometry.original.width]


def _check(logits: Float32, geometry: LogitsGeometry) -> None:
    if logits.shape != (geometry.low, geometry.low):
        raise ValueError(f"logits of shape {logits.shape} do not fit a low-res side of {geometry.low}")


def _mask(logits: Float32, rows: _Operator, columns: _Operator) -> Bool:
    """Where the blocks' outputs are positive, [rows' blocks * BLOCK, columns' blocks * BLOCK] bool."""
    smallest, largest = _bounds(logits, rows, columns)
    canvas, blocks = _canvas(rows, columns, np.bool_)
    y, x = np.nonzero(smallest > 0)
    blocks[y, :, x, :] = True
    _fill(blocks, logits, rows, columns, (largest > 0) & ~(smallest > 0))
    return canvas


def _bounds(logits: Float32, rows: _Operator, columns: _Operator) -> tuple[Float32, Float32]:
    """The smallest and the largest logit that each block sees, [rows' blocks, columns' blocks] each: its outputs
    lie between them."""
    seen_y, seen_x = rows.seen(), columns.seen()
    smallest = logits[seen_y].min(axis=1)[:, seen_x].min(axis=2)
    return smallest, logits[seen_y].max(axis=1)[:, seen_x].max(axis=2)


def _canvas(rows: _Operator, columns: _Operator, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """A zeroed image that holds all blocks, and a view of it as [blocks, BLOCK, blocks, BLOCK]."""
    down, across = rows.first.size, columns.first.size
    canvas: NDArray[Any] = np.zeros((down * BLOCK_PX, across * BLOCK_PX), dtype)
    return canvas, canvas.reshape(down, BLOCK_PX, across, BLOCK_PX)


def _fill(blocks: NDArray[Any], logits: Float32, rows: _Operator, columns: _Operator, where: Bool) -> None:
    """Computes the blocks named by `where` [rows' blocks, columns' blocks]; a bool image gets values > 0."""
    for y, x, values in _values(logits, rows, columns, where):
        blocks[y, :, x, :] = values > 0 if blocks.dtype == np.bool_ else values


def _values(
    logits: Float32, rows: _Operator, columns: _Operator, where: Bool
) -> Iterator[tuple[Int, Int, NDArray[Any]]]:
    """The outputs of the blocks named by `where`, some at a time: which they are, y [n] and x [n], and their
    values [n, BLOCK, BLOCK], 0 past the last output."""
    patches = sliding_window_view(logits, (rows.taps, columns.taps))
    block_y, block_x = (found.astype(np.int64) for found in np.nonzero(where))
    for start in range(0, block_y.size, _BATCH):
        y, x = block_y[start : start + _BATCH], block_x[start : start + _BATCH]
        patch = patches[rows.first[y], columns.first[x]]
        yield y, x, rows.weights[y] @ patch @ columns.weights[x].transpose(0, 2, 1)


def _operators(geometry: LogitsGeometry) -> tuple[_Operator, _Operator]:
    """The operators of the rows and of the columns."""
    low, square, valid, out = geometry.low, geometry.square, geometry.valid, geometry.original
    return _operator(low, square, valid.height, out.height), _operator(low, square, valid.width, out.width)


@lru_cache(maxsize=128)  # about 100 KB each for 4000 outputs
def _operator(low: int, square: int, valid: int, out: int) -> _Operator:
    """low -> square, the first `valid` of it -> out, composed."""
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
        # One output a row, so no element is named twice in a single addition.
        weights[output, index[:, tap] - first[output // BLOCK_PX]] += weight[:, tap]
    return _Operator(weights.astype(np.float32).reshape(starts.size, BLOCK_PX, taps), first)


def find_neighbours(source: int, target: int) -> tuple[Int, NDArray[np.float64]]:
    """The two inputs of each output and their weights, [target, 2] each.

    As PyTorch's `area_pixel_compute_source_index` (aten/src/ATen/native/UpSample.h) without align_corners.
    Positions are float32 there; at 1024 their rounding is worth 1e-4 of a pixel, so it is repeated here.
    Where height + width of the output are 128 or less, PyTorch 2 on x86 takes another kernel, which rounds
    once instead of twice (a fused multiply-add); that is left alone.
    """
    scale = np.float32(source) / np.float32(target)
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    position = np.maximum(position, np.float32(0))
    index = np.minimum(position.astype(np.int64), source - 1)
    far = np.clip(position - index, 0.0, 1.0)
    return np.stack([index, np.minimum(index + 1, source - 1)], axis=1), np.stack([1 - far, far], axis=1)
