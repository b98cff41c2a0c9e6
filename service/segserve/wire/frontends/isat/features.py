"""Embeddings as ISAT reads them: JSON with nested lists, a few MB to 80, written and compressed piece by piece."""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import orjson

from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.types import Embedding, Size

HIGH_RES = ("high_res_0", "high_res_1")  # of SAM 2, as ISAT orders them
# Channels that are written at once: about 1 MB of text for SAM's embedding.
CHANNELS_PER_PIECE = 16
GZIP_LEVEL = 1
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS  # 16: with the head and the end of a gzip file


def input_size(manifest: PromptableManifest, size: Size) -> list[int]:
    """Return height and width that an image has in the model's input, as SAM's ResizeLongestSide rounds them."""
    scale = manifest.preprocess.input_size / max(size.height, size.width)
    return [int(size.height * scale + 0.5), int(size.width * scale + 0.5)]


def write_answer(manifest: PromptableManifest, embedding: Embedding, size: Size) -> Iterator[bytes]:
    """Yield the JSON of an embedding: features [1, C, g, g], for SAM 2 those of both resolutions. Blocks.

    size: of the image. ISAT keeps for SAM 2 a list of sizes, and for SAM one size.
    """
    original = [size.height, size.width]
    if manifest.kind is ModelKind.SAM2:
        yield b'{"features":{"image_embed":'
        yield from write_nested(embedding["embedding"])
        yield b',"high_res_feats":['
        for number, name in enumerate(HIGH_RES):
            yield b"," if number else b""
            yield from write_nested(embedding[name])
        sizes = {"original_size": [original], "input_size": [original]}
        yield b"]}," + orjson.dumps(sizes)[1:]
        return
    yield b'{"features":'
    yield from write_nested(embedding["embedding"])
    yield b"," + orjson.dumps({"original_size": original, "input_size": input_size(manifest, size)})[1:]


def write_nested(array: np.ndarray) -> Iterator[bytes]:
    """Yield an array [C, h, w] as nested lists [1, C, h, w]."""
    yield b"[["
    for first in range(0, len(array), CHANNELS_PER_PIECE):
        piece = np.ascontiguousarray(array[first : first + CHANNELS_PER_PIECE], np.float32)
        # Without the brackets around the piece.
        yield (b"," if first else b"") + orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    yield b"]]"


def compress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the gzip file of the pieces. Blocks."""
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
    for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()
