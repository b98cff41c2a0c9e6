"""Checkpoints of others: PyTorch's files without torch, and ONNX Runtime's own format."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from segserve.models.importers.onnx_file import all_tensors
from segserve.models.importers.ort_file import DamagedOrtFile, is_ort_file, parse_ort_file
from segserve.models.importers.torch_file import (
    LEGACY_MAGIC,
    DamagedFile,
    Module,
    UnsafePickle,
    list_module_tensors,
    read_torch_file,
)
from tests.fuzz.harnesses.harness import Harness, scratch_folder, write_scratch

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
    assert is_ort_file(data)
    model.SerializeToString()
    assert sum(len(tensor.raw_data) for tensor in all_tensors(model.graph)) <= len(data)


class Named:
    """A name that a pickle calls; nothing of that name need exist."""

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


@cache
def make_ort_model() -> bytes:
    """Return a small graph as ONNX Runtime writes it."""
    weights = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["y"], name="product"),
            helper.make_node("Softmax", ["y"], ["z"], name="softmax", axis=1),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = scratch_folder() / "seed.ort"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path.read_bytes()


def ort_seeds() -> Iterable[bytes]:
    yield make_ort_model()


HARNESSES = (
    Harness(
        "torch_file",
        read_checkpoint_file,
        checkpoint_seeds,
        (
            *(b"ctorch\nHalfStorage\n", b"ctorch\nBFloat16Storage\n", b"cfuzz\nNetwork\n", b"storage"),
            *(b"\x8a\x08", b"tq\x07Q", b"R.", b"b", b"\x81", b"PK\x01\x02"),
        ),
        1 << 12,
    ),
    Harness("ort", read_ort_file, ort_seeds, (b"ORTM", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"), 1 << 14),
)
