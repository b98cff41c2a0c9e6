"""Models from elsewhere: the manifest of a bundle, and arrays as safetensors."""

import json
from collections.abc import Iterable

import numpy as np
from safetensors import SafetensorError

from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name
from segserve.models.registry import BUILT_IN_MODELS
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from tests.fuzz.harnesses.harness import Harness, expect_refusals, scratch_folder


def read_manifest(data: bytes) -> None:
    folder = scratch_folder() / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST_FILE).write_bytes(data)
    with expect_refusals():
        bundle = Bundle(folder)
        for file in bundle.manifest.files:
            with expect_refusals():
                assert bundle.path(file).parent == folder
    with expect_refusals():
        assert "/" not in check_model_name(data.decode("utf-8", "replace"))


def read_arrays(data: bytes) -> None:
    """Arrays of the cache: what cannot be read counts as absent."""
    try:
        arrays = unpack_embedding(data)
    except SafetensorError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(data)


def manifest_seeds() -> Iterable[bytes]:
    for folder in sorted(BUILT_IN_MODELS.iterdir()):
        yield (folder / MANIFEST_FILE).read_bytes()
    yield b"kind: instances\nname: a\narchitecture: b\nfiles: {../x.onnx: {digest: d, bytes: 1}}\nclasses: [a, b]\n"


def array_seeds() -> Iterable[bytes]:
    yield pack_embedding({"embedding": np.ones((1, 2, 2), np.float32)})
    header = json.dumps({"maps": {"dtype": "U16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    yield len(header).to_bytes(8, "little") + header + bytes(4)


MANIFEST_WORDS = (b"&a ", b"*a", b"!!python/object", b"- ", b": ", b"{", b"[")
ARRAY_WORDS = (b"BF16", b"F16", b"F8_E4M3", b"I64", b"BOOL", b'"shape":[')
HARNESSES = (
    Harness(
        "manifest",
        read_manifest,
        manifest_seeds,
        MANIFEST_WORDS,
        1 << 12,
    ),
    Harness(
        "safetensors",
        read_arrays,
        array_seeds,
        ARRAY_WORDS,
        1 << 10,
    ),
)
