"""How much memory of the NVIDIA GPUs is in use, as their driver tells.

It is that of all processes: a process in a container is known to the driver by a number that it does not know
itself. What runs out is the whole anyway.
"""

from contextlib import suppress
from typing import Any


def load_nvml() -> Any | None:
    """nvidia-ml-py, ready for use; None where it is not installed or finds no driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


class DeviceMemory:
    """nvml: `load_nvml()`'s."""

    def __init__(self, nvml: Any | None) -> None:
        self._nvml = nvml

    def read_used_bytes(self) -> dict[str, int]:
        """Bytes in use, by the device's number as the driver counts; without those that do not tell."""
        found: dict[str, int] = {}
        if self._nvml is None:
            return found
        with suppress(self._nvml.NVMLError):  # the driver has gone
            for index in range(self._nvml.nvmlDeviceGetCount()):
                with suppress(self._nvml.NVMLError):  # one that is lost, or cut into instances
                    device = self._nvml.nvmlDeviceGetHandleByIndex(index)
                    found[str(index)] = int(self._nvml.nvmlDeviceGetMemoryInfo(device).used)
        return found
