"""ONNX Runtime, opened one way: threads stated, no spinning, the device chosen once.

Arrays that many runs read can be held in the device's memory (`DeviceArray`), so that a run moves only what is new.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BrokenModel, MissingDependency, OutOfMemory
from segserve.types import Device

# As ONNX Runtime's arenas, CUDA's allocator and its libraries put it.
OUT_OF_MEMORY_MESSAGES = (
    *("Failed to allocate memory", "out of memory", "bad_alloc", "CUDA_ERROR_OUT_OF_MEMORY"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
CUDA_PROVIDER = "CUDAExecutionProvider"
CUDA_DEVICE_ID = 0  # the first that CUDA_VISIBLE_DEVICES leaves


@dataclass(frozen=True)
class RuntimeOptions:
    """`RuntimeOptions` says how ONNX Runtime runs a graph.

    threads: threads of one operator inside one run.
    keep_on_device: keep arrays that many runs read in the device's memory.
    fp16: run the bundle's fp16 graph where there is one, and allow TF32 where there is none.
    """

    device: Device = Device.CPU
    threads: int = 1
    keep_on_device: bool = False
    fp16: bool = False

    @classmethod
    def for_device(cls, device: Device, threads: int, *, fp16: bool = False) -> "RuntimeOptions":
        """What suits the device: a CPU is no faster in fp16, and numpy's arrays are in its memory already."""
        gpu = device is Device.CUDA
        return cls(device, threads, keep_on_device=gpu, fp16=gpu and fp16)


class DeviceArray:
    """An array in a device's memory, to be read by graphs on that device. It is freed with this object."""

    def __init__(self, value: Any) -> None:
        self.value = value  # onnxruntime.OrtValue
        self.nbytes = int(value.tensor_size_in_bytes())

    def numpy(self) -> NDArray[Any]:
        """A copy on the host."""
        array: NDArray[Any] = self.value.numpy()
        return array


Arrays = Mapping[str, NDArray[Any]]
# Each array in the host's memory, or held in that of the device whose graphs are to read it.
HostOrDeviceArrays = Mapping[str, NDArray[Any] | DeviceArray]


class OnnxGraph:
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
        cuda = options.device is Device.CUDA
        missing = MissingDependency("a CUDA device and onnxruntime-gpu", "gpu", "SEGSERVE_DEVICE=cuda")
        if cuda and CUDA_PROVIDER not in ort.get_available_providers():
            raise missing
        precision = {"use_tf32": int(options.fp16)}  # 1 where it is not said
        providers = [(CUDA_PROVIDER, {"device_id": CUDA_DEVICE_ID, **precision})] if cuda else []
        try:
            # By default a device that fails is silently replaced by the CPU, now or at a run.
            self._session = ort.InferenceSession(
                str(path), session_options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BrokenModel(
                f"{path.name} cannot be loaded: {error}", remedy="Import the model again."
            ) from error
        if cuda and CUDA_PROVIDER not in self._session.get_providers():
            raise missing
        self._new_array = ort.OrtValue.ortvalue_from_numpy
        self._device, self.keeps_on_device = options.device, options.keep_on_device
        self.inputs = [i.name for i in self._session.get_inputs()]
        self.integers = {i.name for i in self._session.get_inputs() if i.type == "tensor(int64)"}
        self.outputs = [o.name for o in self._session.get_outputs()]
        # Of the first input: numbers where the graph fixes them, names or None where it does not.
        first = self._session.get_inputs()[0]
        self.input_shape: tuple[int | str | None, ...] = tuple(first.shape)
        self.input_type: str = first.type
        self.is_batched = bool(first.shape) and not isinstance(first.shape[0], int)  # the first axis is free

    def run(
        self, inputs: HostOrDeviceArrays, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Inputs the graph does not know are left out. Raises OutOfMemory."""
        wanted = list(outputs or self.outputs)
        feed = {name: inputs[name] for name in self.inputs}
        if any(isinstance(value, DeviceArray) for value in feed.values()):
            return {name: held.numpy() for name, held in self._bound(feed, wanted, Device.CPU).items()}
        with translate_memory_errors():
            arrays = {name: np.ascontiguousarray(array) for name, array in feed.items()}
            return dict(zip(wanted, self._session.run(wanted, arrays), strict=True))

    def run_on_device(self, inputs: HostOrDeviceArrays) -> HostOrDeviceArrays:
        """As `run`, but where this graph holds arrays all outputs stay in the device's memory."""
        if not self.keeps_on_device:
            return self.run(inputs)
        return self._bound({name: inputs[name] for name in self.inputs}, self.outputs, self._device)

    def to_device(self, array: NDArray[Any]) -> NDArray[Any] | DeviceArray:
        """The array where this graph's runs read it soonest. Raises OutOfMemory."""
        if not self.keeps_on_device:
            return array
        with translate_memory_errors():
            return DeviceArray(self._new_array(np.ascontiguousarray(array), self._device, CUDA_DEVICE_ID))

    def _bound(
        self, feed: HostOrDeviceArrays, wanted: Sequence[str], device: Device
    ) -> dict[str, DeviceArray]:
        """The outputs in the memory of `device`. Binding copies arrays to where the graph wants them."""
        with translate_memory_errors():
            binding = self._session.io_binding()
            arrays = {n: np.ascontiguousarray(v) for n, v in feed.items() if not isinstance(v, DeviceArray)}
            for name, value in feed.items():
                if isinstance(value, DeviceArray):
                    binding.bind_ortvalue_input(name, value.value)
                else:
                    binding.bind_cpu_input(name, arrays[name])
            for name in wanted:
                binding.bind_output(name, device, CUDA_DEVICE_ID)
            self._session.run_with_iobinding(binding)
            return dict(zip(wanted, map(DeviceArray, binding.get_outputs()), strict=True))


@contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Raises OutOfMemory in place of what ONNX Runtime raises for want of memory."""
    try:
        yield
    except Exception as error:  # its errors share no base class
        if any(sign in str(error) for sign in OUT_OF_MEMORY_MESSAGES):
            raise OutOfMemory from error
        raise
