"""An image to what the network sees of it. Since images are 8-bit, every normalisation is a table of 256 entries:
statistics come from the image's histogram, and tiles are looked up when they are needed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.models.semantic_manifest import Fixed, Normalisation, Percentile, SemanticInput
from segserve.semantic.clahe import equalise
from segserve.types import Float32, Size, UInt8

LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class Prepared:
    """values [H, W, C] uint8, tables [C, 256] float32: channel c of a pixel is tables[c, value]."""

    values: UInt8
    tables: Float32

    @property
    def size(self) -> Size:
        return Size(*self.values.shape[:2])

    def cut(self, y: int, x: int, height: int, width: int) -> Float32:
        """The network's input [C, height, width] from (x, y); what lies beyond the image is mirrored."""
        part = self.values[y : y + height, x : x + width]
        missing = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
        if any(after for _, after in missing):
            part = np.pad(part, missing, mode="reflect")
        return np.stack([table[part[..., c]] for c, table in enumerate(self.tables)])


def prepare(image: UInt8, options: SemanticInput) -> Prepared:
    """image [H, W, 3] RGB; see `models.semantic_manifest` for the steps and their order."""
    values = grey(image) if options.channels == 1 else image
    if options.clahe is not None:
        values = equalise(values, options.clahe)
    values = np.atleast_3d(values)
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(values, 2, 0)])
    return Prepared(values, tables(counts, options.normalise))


def grey(image: UInt8) -> UInt8:
    """[H, W, 3] -> [H, W]: Rec. 601 luma, as Pillow's mode L."""
    return np.asarray(Image.fromarray(image).convert("L"))


def tables(counts: NDArray[np.intp], normalise: Normalisation) -> Float32:
    """counts [C, 256] of the image's values by channel -> what each value becomes, [C, 256]."""
    if isinstance(normalise, Fixed):
        levels = np.broadcast_to(LEVELS * normalise.white / 255, counts.shape)
        return shifted(levels, normalise.mean, normalise.std)
    by = counts if normalise.per_channel else np.broadcast_to(counts.sum(axis=0), counts.shape)
    if isinstance(normalise, Percentile):
        low, high = (np.array([[percentile(c, q)] for c in by]) for q in (normalise.low, normalise.high))
        levels = (LEVELS - low) / divisor(high - low + normalise.eps)
        if normalise.clip:
            levels = np.clip(levels, 0, 1)
        return shifted(levels, normalise.mean, normalise.std)
    totals = by.sum(axis=1, keepdims=True)
    mean = (by * LEVELS).sum(axis=1, keepdims=True) / totals
    deviation = np.sqrt((by * (LEVELS - mean) ** 2).sum(axis=1, keepdims=True) / totals)
    return single((LEVELS - mean) / divisor(deviation + normalise.eps))


def shifted(levels: NDArray[np.float64], mean: tuple[float, ...], std: tuple[float, ...]) -> Float32:
    return single((levels - np.array(mean)[:, None]) / np.array(std)[:, None])


def single(levels: NDArray[np.float64]) -> Float32:
    return levels.astype(np.float32)


def divisor(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """An image of one value has no range: it becomes 0 everywhere, whatever is divided by."""
    return np.where(values == 0, 1.0, values)


def percentile(counts: NDArray[np.intp], q: float) -> float:
    """Of the values that `counts` [256] counts; linear between neighbours, as numpy's default."""
    position = q / 100 * (int(counts.sum()) - 1)
    ends = counts.cumsum()
    lower, upper = np.searchsorted(ends, [np.floor(position), np.ceil(position)], side="right")
    return float(lower + (upper - lower) * (position - np.floor(position)))
