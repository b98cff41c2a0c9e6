"""Memory in use on each GPU, as NVML reports it."""

from segserve.device_memory import DeviceMemory, load_nvml


class FakeNvml:
    """nvidia-ml-py with two devices and a lost one."""

    class NVMLError(Exception):
        pass

    class Memory:
        def __init__(self, used: int) -> None:
            self.used = used

    def __init__(self) -> None:
        self.memory: dict[int, int | None] = {0: 5 << 30, 1: None, 2: 1 << 30}

    def nvmlDeviceGetCount(self) -> int:
        if not self.memory:
            raise self.NVMLError("Driver Not Loaded")
        return len(self.memory)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> "FakeNvml.Memory":
        used = self.memory[handle]
        if used is None:
            raise self.NVMLError("GPU is lost")
        return self.Memory(used)


def test_the_memory_of_each_device_that_answers_is_read() -> None:
    nvml = FakeNvml()
    memory = DeviceMemory(nvml)
    assert memory.read_used_bytes() == {"0": 5 << 30, "2": 1 << 30}
    nvml.memory = {}
    assert memory.read_used_bytes() == {}


def test_without_nvml_there_are_no_devices() -> None:
    assert DeviceMemory(None).read_used_bytes() == {}


def test_without_a_driver_there_are_no_devices() -> None:
    if load_nvml() is None:
        assert DeviceMemory(load_nvml()).read_used_bytes() == {}
