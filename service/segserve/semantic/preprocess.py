"""An image becomes the network's input: grey or RGB, CLAHE, normalisation.

Images are 8-bit, so every normalisation is a table of 256 entries. Statistics come from the histogram of the whole
image, and the table is applied to a tile when the tile is read.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.models.semantic_manifest import Fixed, Normalisation, Percentile, SemanticInput
from segserve.semantic.clahe import apply_clahe
from segserve.types import Float32, Size, UInt8

LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class NetworkInput:
    """An image for the network: channel c of a pixel is tables[c, values[y, x, c]].

    values: [H, W, C] uint8.
    tables: [C, 256] float32.
    """

    values: UInt8
    tables: Float32

    @property
    def size(self) -> Size:
        return Size(*self.values.shape[:2])

    def read_tile(self, y: int, x: int, height: int, width: int) -> Float32:
        """Return the tile [C, height, width] whose top left corner is (x, y). Beyond the image it is mirrored."""
        part = self.values[y : y + height, x : x + width]
        padding = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
        if any(after for _, after in padding):
            part = np.pad(part, padding, mode="reflect")
        return np.stack([table[part[..., c]] for c, table in enumerate(self.tables)])


def prepare_input(image: UInt8, options: SemanticInput) -> NetworkInput:
    """Prepare an RGB image [H, W, 3]. `models.semantic_manifest` describes the steps and their order."""
    values = to_grey(image) if options.channels == 1 else image
    if options.clahe is not None:
        values = apply_clahe(values, options.clahe)
    values = np.atleast_3d(values)
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(values, 2, 0)])
    return NetworkInput(values, make_tables(counts, options.normalise))


def to_grey(image: UInt8) -> UInt8:
    """[H, W, 3] -> [H, W]: Rec. 601 luma, as Pillow's mode L."""
    return np.asarray(Image.fromarray(image).convert("L"))


def make_tables(counts: NDArray[np.intp], normalise: Normalisation) -> Float32:
    """Return the normalised value of each 8-bit value, [C, 256].

    counts: [C, 256], the histogram of each channel of the image.
    """
    if isinstance(normalise, Fixed):
        levels = np.broadcast_to(LEVELS * normalise.white / 255, counts.shape)
        return standardise(levels, normalise.mean, normalise.std)
    if not normalise.per_channel:
        counts = np.broadcast_to(counts.sum(axis=0), counts.shape)
    if isinstance(normalise, Percentile):
        low, high = (
            np.array([[histogram_percentile(channel, q)] for channel in counts])
            for q in (normalise.low, normalise.high)
        )
        levels = (LEVELS - low) / replace_zeros(high - low + normalise.eps)
        if normalise.clip:
            levels = np.clip(levels, 0, 1)
        return standardise(levels, normalise.mean, normalise.std)
    totals = counts.sum(axis=1, keepdims=True)
    mean = (counts * LEVELS).sum(axis=1, keepdims=True) / totals
    deviation = np.sqrt((counts * (LEVELS - mean) ** 2).sum(axis=1, keepdims=True) / totals)
    return to_float32((LEVELS - mean) / replace_zeros(deviation + normalise.eps))


def standardise(levels: NDArray[np.float64], mean: tuple[float, ...], std: tuple[float, ...]) -> Float32:
    """Return (levels [C, 256] - mean) / std; mean and std hold one number for all channels, or one for each."""
    return to_float32((levels - np.array(mean)[:, None]) / np.array(std)[:, None])


def to_float32(levels: NDArray[np.float64]) -> Float32:
    return levels.astype(np.float32)


def replace_zeros(divisor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the divisor with 1 for 0. An image of one value has no range: it becomes 0 everywhere, not NaN."""
    return np.where(divisor == 0, 1.0, divisor)


def histogram_percentile(counts: NDArray[np.intp], q: float) -> float:
    """Return the q-th percentile, 0 to 100, of the values that a histogram [256] counts.

    Linear between neighbours, as numpy's default.
    """
    position = q / 100 * (int(counts.sum()) - 1)
    ends = counts.cumsum()
    lower, upper = np.searchsorted(ends, [np.floor(position), np.ceil(position)], side="right")
    return float(lower + (upper - lower) * (position - np.floor(position)))
