"""The descriptor of an object: its mean direction in the embedding, and the likeness of two objects by it.

The embedding of an image is there before anything is known of its objects. Each cell of it, brought to length 1, is a
direction that says what the cell shows. The mean direction of the cells under a mask describes the object: it tells
whether a mask on another slice, frame or image still shows the same thing, and where more like it is.
"""

import numpy as np
from numpy.typing import NDArray

from segserve.types import Bool, Float32


def measure_descriptor(embedding: NDArray[np.floating], mask: Bool) -> Float32:
    """Return the descriptor [C] of the object under a low-res mask, of length 1; zeros for an empty mask.

    embedding: [C, h, w]. mask: [low, low]; `low` is a multiple of h and w. A cell counts by how much of it the mask
    covers.
    """
    channels, height, width = embedding.shape
    rows, columns = mask.shape[0] // height, mask.shape[1] // width
    weights = mask.reshape(height, rows, width, columns).sum(axis=(1, 3))
    y, x = np.nonzero(weights)
    cells = embedding[:, y, x].astype(np.float32)
    norms = np.linalg.norm(cells, axis=0)
    total = (cells / np.maximum(norms, np.finfo(np.float32).tiny)) @ weights[y, x].astype(np.float32)
    length = float(np.linalg.norm(total))
    return total / np.float32(length) if length > 0 else np.zeros(channels, np.float32)


def compute_likeness(one: Float32, other: Float32) -> float:
    """Return the cosine of two descriptors [C], -1 to 1."""
    return float(one @ other)
