"""Models from elsewhere: the manifest of a bundle, arrays as safetensors, checkpoints and graphs."""

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError

from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name
from segserve.models.importers.onnx_file import all_tensors
from segserve.models.importers.ort_file import DamagedOrtFile, parse_ort_file
from segserve.models.importers.torch_file import (
    LEGACY_MAGIC,
    DamagedFile,
    Module,
    UnsafePickle,
    list_module_tensors,
    read_torch_file,
)
from segserve.models.registry import BUILT_IN_MODELS
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from tests.fuzz.harnesses.harness import Harness, expect_refusals, scratch_folder, write_scratch


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


MODULE_CLASSES = frozenset({("fuzz", "Network"), ("torch.nn.modules.conv", "Conv2d")})
MAX_REPEATS = 4  # arrays may be views of the same bytes


def read_checkpoint_file(data: bytes) -> None:
    """A checkpoint of torch: tensors are views of the file, so they cannot be many times larger."""
    path = write_scratch("checkpoint.pt", data)
    try:
        content = read_torch_file(path, MODULE_CLASSES)
        arrays = list_module_tensors(content) if isinstance(content, Module) else content
    except (UnsafePickle, DamagedFile):
        return
    for array in arrays.values() if isinstance(arrays, dict) else ():
        assert not isinstance(array, np.ndarray) or array.nbytes <= MAX_REPEATS * len(data)


def read_ort_file(data: bytes) -> None:
    """A graph in ONNX Runtime's format: its tensors together are not larger than the file."""
    try:
        model = parse_ort_file(data)
    except DamagedOrtFile:
        return
    assert sum(len(tensor.raw_data) for tensor in all_tensors(model.graph)) <= len(data)


def manifest_seeds() -> Iterable[bytes]:
    for folder in sorted(BUILT_IN_MODELS.iterdir()):
        yield (folder / MANIFEST_FILE).read_bytes()
    yield b"kind: instances\nname: a\narchitecture: b\nfiles: {../x.onnx: {digest: d, bytes: 1}}\nclasses: [a, b]\n"


def array_seeds() -> Iterable[bytes]:
    yield pack_embedding({"embedding": np.ones((1, 2, 2), np.float32)})
    header = json.dumps({"maps": {"dtype": "U16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    yield len(header).to_bytes(8, "little") + header + bytes(4)


class Named:
    """What a pickle calls by its name; nothing of that name need exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    """The storage of a tensor, as torch writes it: key and number of its elements."""

    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class Tensor:
    def __init__(self, storage: Storage, *shape: int) -> None:
        self.storage, self.shape = storage, shape


class Object:
    """A module with its attributes."""

    def __init__(self, module: str, name: str, **state: Any) -> None:
        self.named, self.state = Named(module, name), state


class TorchPickler(pickle._Pickler):
    """Writes tensors and modules as torch.save does, without torch."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Storage):
            return ("storage", Named("torch", "FloatStorage"), value.key, "cpu", value.count)
        return None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Tensor):
            strides = tuple(int(np.prod(value.shape[i + 1 :])) for i in range(len(value.shape)))
            arguments = (value.storage, 0, value.shape, strides, False, OrderedDict())
            self.save(Named("torch._utils", "_rebuild_tensor_v2"))
            self.save(arguments)
            self.write(pickle.REDUCE)
        elif isinstance(value, Object):
            self.save(value.named)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(value.state)
            self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)


def dump(value: Any) -> bytes:
    out = io.BytesIO()
    TorchPickler(out, 2).dump(value)
    return out.getvalue()


def checkpoint_seeds() -> Iterable[bytes]:
    """Both formats, with a state dict and with a module."""
    weights = {"conv.weight": Tensor(Storage("0", 6), 2, 3), "step": 3, "betas": (0.9, 0.999)}
    layer = Object(
        "torch.nn.modules.conv", "Conv2d", _parameters=OrderedDict(weight=Tensor(Storage("0", 6), 6))
    )
    module = Object(
        "fuzz", "Network", training=False, _modules=OrderedDict(conv=layer), _buffers=OrderedDict()
    )
    values = np.arange(6, dtype="<f4").tobytes()
    for content in (weights, module):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("c/data.pkl", dump(content))
            archive.writestr("c/byteorder", "little")
            archive.writestr("c/data/0", values)
        yield packed.getvalue()
        head = (dump(part) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}, content, ["0"]))
        yield b"".join(head) + (6).to_bytes(8, "little") + values


def ort_seeds() -> Iterable[bytes]:
    """A graph of one node, y = x + w."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    target = scratch_folder() / "seed.ort"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    yield target.read_bytes()


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
    Harness(
        "checkpoint",
        read_checkpoint_file,
        checkpoint_seeds,
        (b"storage", b"ctorch\nFloatStorage\n", b"cfuzz\nNetwork\n", b"R", b"b", b"\x81", b"Q", b"PK\1\2"),
        1 << 12,
    ),
    Harness("ort", read_ort_file, ort_seeds, (b"ORTM", b"\0\0\0\x80", b"\xff\xff\xff\x7f"), 1 << 12),
)
