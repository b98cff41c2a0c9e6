"""Graphs run by OpenVINO, on a CPU."""

import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BrokenModel, OutOfMemory
from segserve.models.runtime.graph import DeviceArray, HostOrDeviceArrays
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Precision

# OpenVINO's names of the precisions.
PRECISION_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16"}
# OpenVINO adds it to the names of results.
RESULT_SUFFIX = "/sink_port_0"
OUT_OF_MEMORY_MESSAGES = ("bad_alloc", "out of memory", "Failed to allocate")


class OpenVinoGraph:
    """`OpenVinoGraph` is a graph that OpenVINO runs on the CPU; see `Graph`."""

    keeps_on_device = False

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        self._compiled = compile_graph(path, options)
        inputs = self._compiled.inputs
        self.inputs = [i.get_any_name() for i in inputs]
        self.integers = {i.get_any_name() for i in inputs if i.get_element_type().get_type_name() == "i64"}
        self.outputs = [name_output(output) for output in self._compiled.outputs]
        first = inputs[0].get_partial_shape()
        self.is_batched = len(first) > 0 and first[0].is_dynamic
        # A request runs once at a time, so each thread takes one.
        self._idle_requests: list[Any] = []
        self._lock = threading.Lock()

    def run(
        self, inputs: HostOrDeviceArrays, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph and return the outputs on the host; see `Graph.run`. OpenVINO computes all outputs."""
        feed = [np.ascontiguousarray(inputs[name]) for name in self.inputs]
        with self._lock:
            request = self._idle_requests.pop() if self._idle_requests else None
        try:
            request = request or self._compiled.create_infer_request()
            request.infer(feed, share_inputs=True, share_outputs=True)
            # Copies: the request's own memory serves the next run.
            answers = {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self.outputs)}
        except Exception as error:  # OpenVINO's errors are RuntimeError and its kin
            if isinstance(error, MemoryError) or any(m in str(error) for m in OUT_OF_MEMORY_MESSAGES):
                raise OutOfMemory from error
            raise
        with self._lock:
            self._idle_requests.append(request)
        return {name: answers[name] for name in outputs or self.outputs}

    def run_on_device(self, inputs: HostOrDeviceArrays) -> HostOrDeviceArrays:
        """Run the graph as `run` does: a CPU's arrays are the host's."""
        return self.run(inputs)

    def to_device(self, array: NDArray[Any]) -> NDArray[Any] | DeviceArray:
        """Return the array as it is."""
        return array


def name_output(output: Any) -> str:
    """Return the name that the file gives an output.

    An output that a later node only hands on has that node's name too. Of the two, the result's own name is the file's.
    """
    name: str = output.get_node().get_friendly_name().removesuffix(RESULT_SUFFIX)
    return name if name in output.get_names() else str(output.get_any_name())


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


@lru_cache(maxsize=1)
def open_core() -> Any:
    """Return the process's `openvino.Core`."""
    import openvino  # imported here, so that the command line starts without it

    return openvino.Core()


def compile_graph(path: Path, options: RuntimeOptions) -> Any:
    """Return an `openvino.CompiledModel`. Raises BrokenModel."""
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[options.precision],
        "INFERENCE_NUM_THREADS": options.threads * options.concurrent_runs,
        "NUM_STREAMS": options.concurrent_runs,
        # Other processes and other graphs run on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    if options.compiled_dir is not None:
        config["CACHE_DIR"] = str(options.compiled_dir)
    try:
        return open_core().compile_model(str(path), "CPU", config)
    except Exception as error:  # OpenVINO's errors are RuntimeError and its kin
        raise BrokenModel(
            f"{path.name} cannot be loaded by OpenVINO.",
            remedy="Set SEGSERVE_RUNTIME=onnxruntime, or import the model again.",
        ) from error
