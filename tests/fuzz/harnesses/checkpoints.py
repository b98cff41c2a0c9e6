"""Checkpoints of others: PyTorch's files without torch, and ONNX Runtime's own format."""

import io
import zipfile
from collections.abc import Iterable
from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from segserve.models.importers.ort_file import DamagedOrtFile, is_ort_file, parse_ort_file
from segserve.models.importers.torch_file import DamagedFile, UnsafePickle, read_torch_file
from tests.fuzz.harnesses.harness import Harness, scratch_folder, write_scratch

# A dict with one tensor of 2 x 2 over storage 0, as torch.save writes it.
PICKLE = (
    b"\x80\x02}q\x00X\x06\x00\x00\x00weightq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x02K\x02\x86q\x08"
    b"K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
)


def read_checkpoint(data: bytes) -> None:
    try:
        content = read_torch_file(write_scratch("checkpoint.pt", data))
    except (UnsafePickle, DamagedFile):
        return
    for array in content.values() if isinstance(content, dict) else ():
        if isinstance(array, np.ndarray):
            array.sum()  # its bytes are those of the file, or a copy


def read_ort(data: bytes) -> None:
    try:
        model = parse_ort_file(data)
    except DamagedOrtFile:
        return
    assert is_ort_file(data)
    model.SerializeToString()


def checkpoint_seeds() -> Iterable[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", PICKLE)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    yield file.getvalue()
    yield PICKLE
    # The older format: a magic number, a version, the machine, the content, the keys of storages, and these.
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    machine = b"\x80\x02}q\x00X\x0d\x00\x00\x00little_endianq\x01\x88s."
    keys = b"\x80\x02]q\x00X\x01\x00\x00\x000q\x01a."
    older = PICKLE.replace(b"K\x04tq\x07Q", b"K\x04Ntq\x07Q")
    values = (4).to_bytes(8, "little") + np.arange(4, dtype=np.float32).tobytes()
    yield magic + b"\x80\x02M\xe9\x03." + machine + older + keys + values


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
        read_checkpoint,
        checkpoint_seeds,
        (
            b"ctorch\nHalfStorage\n",
            b"ctorch\nBFloat16Storage\n",
            b"\x8a\x08",
            b"tq\x07Q",
            b"R.",
            b"PK\x01\x02",
        ),
        1 << 12,
    ),
    Harness("ort", read_ort, ort_seeds, (b"ORTM", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"), 1 << 14),
)
