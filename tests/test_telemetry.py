"""Nothing that segserve imports leaves files outside its data folder, or reports anything to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORT_RUNTIMES = """
import os
import segserve
import numpy as np
import onnx
import onnxruntime

value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
node = onnx.helper.make_node("Relu", ["x"], ["y"])
graph = onnx.helper.make_graph([node], "relu", [value], [result])
opset = onnx.helper.make_opsetid("", 17)
model = onnx.helper.make_model(graph, ir_version=9, opset_imports=[opset]).SerializeToString()
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.zeros(1, np.float32)})

from segserve.models.runtime.openvino_graph import has_openvino, open_core
if has_openvino():
    open_core()
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


def run_in_home(home: Path, program: str, **variables: str) -> str:
    """Return what the program prints, run where the home folder is `home` and no variable says otherwise."""
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"HOME": str(home)} | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return run.stdout.strip()


def test_runtimes_leave_nothing_in_the_home_folder(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert run_in_home(tmp_path, IMPORT_RUNTIMES) == "1"
    assert list(tmp_path.rglob("*")) == []


def test_a_variable_of_the_user_is_kept(tmp_path: Path) -> None:
    program = "import os, segserve; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_in_home(tmp_path, program, ORT_DISABLE_TELEMETRY="0") == "0"
