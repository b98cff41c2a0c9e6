"""ONNX Runtime, opened one way: threads stated, no spinning, the device chosen once."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BrokenModel, MissingDependency, OutOfMemory
from segserve.types import Device

# As ONNX Runtime's arenas and CUDA's allocator put it.
OUT_OF_MEMORY = ("Failed to allocate memory", "out of memory", "bad_alloc", "CUDA_ERROR_OUT_OF_MEMORY")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RuntimeOptions:
    """threads: of one operator inside one run."""

    device: Device = Device.CPU
    threads: int = 1


class Graph:
    """One loaded ONNX file: named arrays in, named arrays out. Safe to run from several threads."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingDependency("ONNX Runtime", "cpu' or 'segserve[gpu", "Running a model")
        import onnxruntime as ort  # here, so that the command line starts without it

        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session_options.inter_op_num_threads = 1
        # Spinning threads would burn the cores that other requests need.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session_options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if options.device is Device.CUDA:
            providers.insert(0, "CUDAExecutionProvider")
        try:
            self._session = ort.InferenceSession(str(path), session_options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BrokenModel(
                f"{path.name} cannot be loaded: {error}", remedy="Import the model again."
            ) from error
        if options.device is Device.CUDA and "CUDAExecutionProvider" not in self._session.get_providers():
            raise MissingDependency("a CUDA device and onnxruntime-gpu", "gpu", "SEGSERVE_DEVICE=cuda")
        self.inputs = [i.name for i in self._session.get_inputs()]
        self.integers = {i.name for i in self._session.get_inputs() if i.type == "tensor(int64)"}
        self.outputs = [o.name for o in self._session.get_outputs()]
        # Of the first input: numbers where the graph fixes them, names or None where it does not.
        first = self._session.get_inputs()[0]
        self.input_shape: tuple[int | str | None, ...] = tuple(first.shape)
        self.input_type: str = first.type
        self.batched = bool(first.shape) and not isinstance(first.shape[0], int)  # the first axis is free

    def run(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Inputs the graph does not know are left out. Raises OutOfMemory."""
        wanted = list(outputs or self.outputs)
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        try:
            return dict(zip(wanted, self._session.run(wanted, feed), strict=True))
        except Exception as error:  # ONNX Runtime's errors share no base class
            if any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise OutOfMemory from error
            raise
