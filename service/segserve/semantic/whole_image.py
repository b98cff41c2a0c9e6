"""Inference on the whole image at once: for networks that know what they look for at one size, such as lungs.

The image is stretched to the network's size, and the probabilities are stretched back, a band of rows at a time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.semantic.preprocess import NetworkInput
from segserve.semantic.tta import Flips, RunNetwork, run_with_flips
from segserve.types import Float32, Size, UInt8

BAND_ROWS = 256  # rows of the image whose probabilities are in memory at once


def stretch_image(image: UInt8, tile: tuple[int, int]) -> UInt8:
    """Resize [H, W, 3] to the tile's height and width."""
    height, width = tile
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def run_on_whole_image(
    network_input: NetworkInput, run: RunNetwork, size: Size, flips: Flips = Flips.NONE
) -> Iterator[tuple[int, Float32]]:
    """Yield the probabilities of the image as bands from top to bottom: (first row, [K, rows, W]).

    network_input: the stretched image. size: of the image itself.
    """
    height, width = network_input.size.height, network_input.size.width
    [small] = run_with_flips([network_input.read_tile(0, 0, height, width)], run, flips)
    columns, column_weights = sample_positions(size.width, width)
    rows, row_weights = sample_positions(size.height, height)
    for top in range(0, size.height, BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        lower, upper = small[:, rows[band]], small[:, np.minimum(rows[band] + 1, height - 1)]
        tall = lower + (upper - lower) * row_weights[band, None]
        left, right = tall[:, :, columns], tall[:, :, np.minimum(columns + 1, width - 1)]
        yield top, left + (right - left) * column_weights


def sample_positions(length: int, source: int) -> tuple[NDArray[np.intp], Float32]:
    """Return which of `source` values each of `length` values lies behind, and how far behind it, 0 to 1.

    Pixels are squares, and their values stand at their centres (align_corners=False).
    """
    positions = (np.arange(length) + 0.5) * source / length - 0.5
    positions = positions.clip(0, source - 1)
    first = np.floor(positions).astype(np.intp)
    return first, (positions - first).astype(np.float32)
