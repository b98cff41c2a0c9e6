"""The descriptor of an object: its mean direction in the embedding, and the likeness of two objects by it.

The embedding of an image is there before anything is known of its objects. Each cell of it, brought to length 1, is a
direction that says what the cell shows. The mean direction of the cells under a mask describes the object: it tells
whether a mask on another slice, frame or image still shows the same thing, and where more like it is.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segserve.types import Bool, Float32


def normalize_cells(embedding: NDArray[np.floating]) -> Float32:
    """Return an embedding [C, ...] with every cell brought to length 1, float32."""
    cells = embedding.astype(np.float32)
    directions: Float32 = cells / np.maximum(np.linalg.norm(cells, axis=0), np.finfo(np.float32).tiny)
    return directions


def measure_descriptor(embedding: NDArray[np.floating], mask: Bool) -> Float32:
    """Return the descriptor [C] of the object under a low-res mask, of length 1; zeros for an empty mask.

    embedding: [C, h, w]. mask: [low, low]; `low` is a multiple of h and w. A cell counts by how much of it the mask
    covers.
    """
    channels, height, width = embedding.shape
    rows, columns = mask.shape[0] // height, mask.shape[1] // width
    weights = mask.reshape(height, rows, width, columns).sum(axis=(1, 3))
    y, x = np.nonzero(weights)
    total = normalize_cells(embedding[:, y, x]) @ weights[y, x].astype(np.float32)
    length = float(np.linalg.norm(total))
    return total / np.float32(length) if length > 0 else np.zeros(channels, np.float32)


def measure_descriptors(
    embedding: NDArray[np.floating], labels: NDArray[np.integer], cells_per_px: tuple[float, float]
) -> Float32:
    """Return the descriptors [n, C] of all n objects of an image, by ascending id.

    embedding: [C, h, w]. labels: label map [H, W]. cells_per_px: cells of the embedding per pixel of the image, along y
    and x. A cell counts by how many of its pixels are the object's.
    """
    channels, height, width = embedding.shape
    rows, columns = np.nonzero(labels)
    ids, objects = np.unique(labels[rows, columns], return_inverse=True)
    y = np.minimum(((rows + 0.5) * cells_per_px[0]).astype(np.intp), height - 1)
    x = np.minimum(((columns + 0.5) * cells_per_px[1]).astype(np.intp), width - 1)
    weights = sparse.csr_array(
        (np.ones(len(objects), np.float32), (objects, y * width + x)), shape=(len(ids), height * width)
    )
    cells = embedding.reshape(channels, -1).T.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    totals = weights @ (cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), tiny))
    descriptors: Float32 = totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), tiny)
    return descriptors


def compute_likeness(one: Float32, other: Float32) -> float:
    """Return the cosine of two descriptors [C], -1 to 1."""
    return float(one @ other)
