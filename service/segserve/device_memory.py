"""Memory in use on NVIDIA GPUs, as their driver reports it (NVML).

The numbers are of all processes together. The driver knows a process in a container by another id than the process
itself does, so its own share cannot be found. What runs out is the total anyway.
"""

from contextlib import suppress
from typing import Any


def load_nvml() -> Any | None:
    """Return nvidia-ml-py, initialised; None if it is not installed or finds no driver."""
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
    """`DeviceMemory` reads the memory in use. nvml: from `load_nvml`; None stands for no devices."""

    def __init__(self, nvml: Any | None) -> None:
        self._nvml = nvml

    def read_used_bytes(self) -> dict[str, int]:
        """Return the bytes in use by device, numbered as the driver does. Devices that do not answer are left out."""
        used: dict[str, int] = {}
        if self._nvml is None:
            return used
        with suppress(self._nvml.NVMLError):  # the driver is gone
            for index in range(self._nvml.nvmlDeviceGetCount()):
                with suppress(self._nvml.NVMLError):  # the device is lost, or split into instances (MIG)
                    device = self._nvml.nvmlDeviceGetHandleByIndex(index)
                    used[str(index)] = int(self._nvml.nvmlDeviceGetMemoryInfo(device).used)
        return used
