"""Graphs run by ONNX Runtime: the threads are set, idle threads do not spin, the device is chosen once."""

import importlib.util
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BrokenModel, MissingDependency, OutOfMemory
from segserve.models.runtime.graph import DeviceArray, HostOrDeviceArrays
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device

# How ONNX Runtime's arenas, CUDA's allocator and CUDA's libraries word it.
OUT_OF_MEMORY_MESSAGES = (
    *("Failed to allocate memory", "out of memory", "bad_alloc", "CUDA_ERROR_OUT_OF_MEMORY"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
CUDA_PROVIDER = "CUDAExecutionProvider"
# The first device that CUDA_VISIBLE_DEVICES leaves visible.
CUDA_DEVICE_ID = 0


class OnnxGraph:
    """`OnnxGraph` is a graph that ONNX Runtime runs; see `Graph`.

    input_shape: of the first input: numbers where the graph fixes an axis, names or None where it does not.
    input_type: of the first input, as ONNX Runtime names it.
    """

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        self._session, self._max_run_s = open_session(path, options), options.max_run_s
        self._device, self.keeps_on_device = options.device, options.keep_on_device
        inputs = self._session.get_inputs()
        self.inputs = [i.name for i in inputs]
        self.integers = {i.name for i in inputs if i.type == "tensor(int64)"}
        self.outputs = [o.name for o in self._session.get_outputs()]
        self.input_shape: tuple[int | str | None, ...] = tuple(inputs[0].shape)
        self.input_type: str = inputs[0].type
        self.is_batched = bool(inputs[0].shape) and not isinstance(inputs[0].shape[0], int)

    def run(
        self, inputs: HostOrDeviceArrays, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph and return the outputs on the host.

        inputs: may hold more arrays than the graph reads.
        outputs: the names to compute; None computes all.

        Raises OutOfMemory, and BrokenModel for a run that takes too long.
        """
        names = list(outputs or self.outputs)
        feed = {name: inputs[name] for name in self.inputs}
        if any(isinstance(value, DeviceArray) for value in feed.values()):
            results = self._run_with_io_binding(feed, names, Device.CPU)
            return {name: array.numpy() for name, array in results.items()}
        with translate_memory_errors():
            arrays = {name: np.ascontiguousarray(array) for name, array in feed.items()}
            if self._max_run_s is not None:
                return dict(zip(names, self._run_for_a_time(names, arrays, self._max_run_s), strict=True))
            return dict(zip(names, self._session.run(names, arrays), strict=True))

    def _run_for_a_time(
        self, names: list[str], arrays: dict[str, NDArray[Any]], max_run_s: float
    ) -> list[Any]:
        """Return what the session returns. A run that takes too long ends between two of the graph's nodes."""
        import onnxruntime as ort

        run_options = ort.RunOptions()
        run_options.log_severity_level = 4  # the end is told by the exception
        timer = threading.Timer(max_run_s, setattr, (run_options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            results: list[Any] = self._session.run(names, arrays, run_options)
        except Exception as error:  # ONNX Runtime's errors share no base class
            if not run_options.terminate:
                raise
            raise BrokenModel(
                f"The graph did not end within {max_run_s:.0f} s.", remedy="Export it without loops."
            ) from error
        finally:
            timer.cancel()
        return results

    def run_on_device(self, inputs: HostOrDeviceArrays) -> HostOrDeviceArrays:
        """Run the graph as `run` does. All outputs stay in the device's memory if this graph keeps arrays there."""
        if not self.keeps_on_device:
            return self.run(inputs)
        feed = {name: inputs[name] for name in self.inputs}
        return self._run_with_io_binding(feed, self.outputs, self._device)

    def to_device(self, array: NDArray[Any]) -> NDArray[Any] | DeviceArray:
        """Return the array where this graph's runs read it fastest. Raises OutOfMemory."""
        if not self.keeps_on_device:
            return array
        import onnxruntime as ort

        with translate_memory_errors():
            contiguous = np.ascontiguousarray(array)
            return DeviceArray(ort.OrtValue.ortvalue_from_numpy(contiguous, self._device, CUDA_DEVICE_ID))

    def _run_with_io_binding(
        self, feed: HostOrDeviceArrays, outputs: Sequence[str], device: Device
    ) -> dict[str, DeviceArray]:
        """Return the outputs in the memory of `device`. Binding copies each input to where the graph reads it."""
        with translate_memory_errors():
            binding = self._session.io_binding()
            arrays = {n: np.ascontiguousarray(v) for n, v in feed.items() if not isinstance(v, DeviceArray)}
            for name, value in feed.items():
                if isinstance(value, DeviceArray):
                    binding.bind_ortvalue_input(name, value.value)
                else:
                    binding.bind_cpu_input(name, arrays[name])
            for name in outputs:
                binding.bind_output(name, device, CUDA_DEVICE_ID)
            self._session.run_with_iobinding(binding)
            return dict(zip(outputs, map(DeviceArray, binding.get_outputs()), strict=True))


def open_session(path: Path, options: RuntimeOptions) -> Any:
    """Return an `onnxruntime.InferenceSession`. Raises BrokenModel, MissingDependency."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingDependency("ONNX Runtime", "cpu", "Running a model")
    import onnxruntime as ort  # imported here, so that the command line starts without it

    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.inter_op_num_threads = 1
    # Spinning threads would burn the cores that other requests need.
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session_options.log_severity_level = 3
    cuda = options.device is Device.CUDA
    missing = MissingDependency("a CUDA device and onnxruntime-gpu", "gpu", "SEGSERVE_DEVICE=cuda")
    if cuda and CUDA_PROVIDER not in ort.get_available_providers():
        raise missing
    precision = {"use_tf32": int(options.fp16)}  # ONNX Runtime's own default is 1
    providers = [(CUDA_PROVIDER, {"device_id": CUDA_DEVICE_ID, **precision})] if cuda else []
    try:
        # Without enable_fallback=0, ONNX Runtime silently replaces a device that fails by the CPU.
        session = ort.InferenceSession(
            str(path), session_options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's errors share no base class
        # ONNX Runtime's words name the file's folder, so they are no part of the message.
        raise BrokenModel(f"{path.name} cannot be loaded.", remedy="Import the model again.") from error
    if cuda and CUDA_PROVIDER not in session.get_providers():
        raise missing
    return session


@contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Raise OutOfMemory in place of the errors that ONNX Runtime raises when memory is short."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's errors share no base class
        if any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES):
            raise OutOfMemory from error
        raise
