"""How a process runs graphs: device, runtime, precision, threads."""

from dataclasses import dataclass
from pathlib import Path

from segserve.settings import count_cores
from segserve.types import Device, Precision, Runtime

# A graph from a stranger may loop for ever. SAM's largest encoder takes 20 s on two slow cores.
MAX_TRIAL_RUN_S = 300.0


@dataclass(frozen=True)
class RuntimeOptions:
    """`RuntimeOptions` says how a graph is run.

    threads: threads of one run.
    concurrent_runs: runs at the same time, each with threads of its own. OpenVINO lets others wait.
    runtime: what runs it on a CPU. On CUDA it is ONNX Runtime.
    precision: of the products on a CPU. ONNX Runtime computes in fp32 only.
    keep_on_device: keep arrays that many runs read in the device's memory.
    fp16: run the bundle's fp16 graph where there is one, and allow TF32 where there is none.
    compiled_dir: where OpenVINO keeps compiled graphs, so that the next start is quick; None keeps none.
    max_run_s: ONNX Runtime gives up a run after so long; None never does.
    """

    device: Device = Device.CPU
    threads: int = 1
    concurrent_runs: int = 1
    runtime: Runtime = Runtime.ONNXRUNTIME
    precision: Precision = Precision.FP32
    keep_on_device: bool = False
    fp16: bool = False
    compiled_dir: Path | None = None
    max_run_s: float | None = None

    @classmethod
    def for_device(cls, device: Device, threads: int, *, fp16: bool = False) -> "RuntimeOptions":
        """Return the options that suit the device.

        A CPU is no faster in fp16, and numpy's arrays are in its memory already.
        """
        gpu = device is Device.CUDA
        return cls(device, threads, keep_on_device=gpu, fp16=gpu and fp16)

    @classmethod
    def for_trial(cls) -> "RuntimeOptions":
        """Return the options for a graph that is tried while it is imported: all cores, for a limited time."""
        return cls(threads=count_cores(), max_run_s=MAX_TRIAL_RUN_S)
