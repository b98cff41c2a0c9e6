"""Values of the embedding of a built-in picture, which the reference library computes for published checkpoints.

`make templates` compares the graphs with the library for random weights. These values show at import that the very
checkpoint gives the embedding that it gave there, on this machine and by this ONNX Runtime.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segserve.types import Float32

EMBEDDINGS_FILE = Path(__file__).parent / "data" / "published_embeddings.json"
SAMPLED_VALUES = 64


def make_test_picture(size: int) -> Float32:
    """Return a picture of discs and stripes as an encoder reads it: [1, 3, size, size], values from -2 to 2."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / np.float32(size)
    stripes = np.sin(40 * x + 25 * y)
    discs = np.hypot(x % 0.25 - 0.12, y % 0.2 - 0.1) < 0.05 + 0.03 * x
    return np.stack([stripes, np.where(discs, 2, -1), stripes * y - discs])[None].astype(np.float32)


def sample_embedding(embedding: Float32) -> Float32:
    """Return values from all over an embedding, one dimension."""
    flat = embedding.reshape(-1)
    return flat[:: len(flat) // SAMPLED_VALUES + 1].astype(np.float32)


def find_published_embedding(digest: str) -> Float32 | None:
    """Return the values that the library computed for a checkpoint, if it is known. digest: the file's sha256."""
    values = json.loads(EMBEDDINGS_FILE.read_text()).get(digest)
    return None if values is None else np.array(values, np.float32)


def record_published_embedding(digest: str, embedding: NDArray[np.float32]) -> None:
    """Store the values of an embedding that the library computed."""
    known = json.loads(EMBEDDINGS_FILE.read_text()) if EMBEDDINGS_FILE.exists() else {}
    known[digest] = [float(f"{value:.7g}") for value in sample_embedding(embedding)]
    EMBEDDINGS_FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
