"""Test-time augmentation (TTA): a tile is also run mirrored, and the results are averaged."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np

from segserve.types import Float32

RunNetwork = Callable[[Float32], Float32]  # [N, C, h, w] -> probabilities [N, K, h, w]


class Flips(StrEnum):
    """How tiles are mirrored. Results are mirrored back and averaged."""

    NONE = "none"
    HORIZONTAL = "horizontal"  # unchanged, and left to right
    VERTICAL = "vertical"  # unchanged, and top to bottom
    BOTH = "both"  # all four combinations


# The array axes that each run of a tile flips.
FLIPPED_AXES: dict[Flips, tuple[tuple[int, ...], ...]] = {
    Flips.NONE: ((),),
    Flips.HORIZONTAL: ((), (-1,)),
    Flips.VERTICAL: ((), (-2,)),
    Flips.BOTH: ((), (-1,), (-2,), (-2, -1)),
}


def run_with_flips(tiles: Sequence[Float32], run: RunNetwork, flips: Flips) -> Float32:
    """Return the probabilities [N, K, h, w] of N tiles [C, h, w], averaged over the flips."""
    batch = np.stack(tiles)
    results = [
        np.flip(run(np.flip(batch, axes)), axes) if axes else run(batch) for axes in FLIPPED_AXES[flips]
    ]
    return results[0] if len(results) == 1 else np.mean(results, axis=0, dtype=np.float32)
