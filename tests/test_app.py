"""What the service does by itself: it warms up before it says ready, and watches the devices' memory."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segserve.app import Role, Service
from segserve.device_memory import DeviceMemory, load_nvml
from segserve.encode.encoder import EncodeRequest
from segserve.models.onnx_runtime import HostOrDeviceArrays, OnnxGraph
from segserve.models.promptable_model import PromptableModel
from segserve.settings import Settings
from segserve.timing import Timings
from segserve.types import Device
from tests.serving import Server


class Elsewhere:
    """Stands for encoder workers."""

    async def encode(self, wanted: EncodeRequest, timings: Timings) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def service(folder: Path, *, elsewhere: bool = False, decode: bool = True, **settings: Any) -> Service:
    given = Settings(data_dir=folder, redis_url="unix:///nowhere", **settings)
    role = Role.LOCAL if decode else Role.ENCODER
    return Service(given, Elsewhere() if elsewhere else None, role=role)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """The first input's first axis, of every run of each graph."""
    seen: dict[str, list[int]] = {}
    open_graph, run = OnnxGraph.__init__, OnnxGraph.run

    def opened(graph: OnnxGraph, path: Path, *arguments: Any) -> None:
        seen[path.name] = []
        graph.file = path.name  # type: ignore[attr-defined]
        open_graph(graph, path, *arguments)

    def noted(graph: OnnxGraph, inputs: HostOrDeviceArrays, *arguments: Any) -> dict[str, Any]:
        seen[graph.file].append(len(np.asarray(inputs[graph.inputs[0]])))  # type: ignore[attr-defined]
        return run(graph, inputs, *arguments)

    monkeypatch.setattr(OnnxGraph, "__init__", opened)
    monkeypatch.setattr(OnnxGraph, "run", noted)
    return seen


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("decode", [False, True])
def test_every_graph_has_run_before_the_service_is_ready(
    tmp_path: Path, runs: dict[str, list[int]], elsewhere: bool, decode: bool
) -> None:
    if elsewhere and not decode:
        return  # that would do nothing
    asyncio.run(service(tmp_path, elsewhere=elsewhere, decode=decode, encode_batch=2).warm_up())
    decoders = {*PromptableModel.DECODER_GRAPHS, "ais.onnx"} if decode else set()
    assert runs.keys() == decoders | (set() if elsewhere else {"encoder.onnx"})
    assert all(runs.values())
    if not elsewhere:
        assert runs["encoder.onnx"] == [2, 1], "a full batch too"


def test_a_device_that_is_not_there_is_refused_clearly(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path, device="cuda")
    image_id = server.upload(nuclei)
    refused = server.click(image_id, 413, 190)
    assert refused.status_code == 501
    assert refused.json()["type"] == "urn:segserve:problem:missing_dependency"
    assert "SEGSERVE_DEVICE=cuda needs a CUDA device" in refused.json()["detail"]
    ready = server.client.get("/readyz")
    assert ready.status_code == 503
    assert "CUDA device" in ready.json()["checks"]["models"]
    assert "segserve_device_memory_bytes{" not in server.client.get("/metrics").text
    assert server.stop() == 0


class NVML:
    """nvidia-ml-py, with two devices and one that is lost."""

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

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> "NVML.Memory":
        used = self.memory[handle]
        if used is None:
            raise self.NVMLError("GPU is lost")
        return self.Memory(used)


def test_the_drivers_word_on_memory_in_use() -> None:
    nvml = NVML()
    memory = DeviceMemory(nvml)
    assert memory.used() == {"0": 5 << 30, "2": 1 << 30}
    nvml.memory = {}
    assert memory.used() == {}
    assert DeviceMemory(None).used() == {}


def test_without_a_driver_nothing_is_told() -> None:
    if load_nvml() is None:
        assert DeviceMemory(load_nvml()).used() == {}


def test_memory_in_use_is_a_metric(tmp_path: Path) -> None:
    watching = service(tmp_path)
    watching.device_memory = DeviceMemory(NVML())

    async def watch() -> str:
        await watching.start(warm_up=False)
        while "segserve_device_memory_bytes{" not in (text := watching.metrics.expose().decode()):
            await asyncio.sleep(0.05)
        await watching.stop()
        return text

    text = asyncio.run(asyncio.wait_for(watch(), 30))
    assert float(text.split('segserve_device_memory_bytes{device="0"} ')[1].split()[0]) == 5 << 30
    assert watching.settings.device is Device.CPU


def test_it_stops_while_an_image_is_read_for_work_in_turns(tmp_path: Path) -> None:
    """The reading thread waits for the event loop, which must not wait for the thread."""

    async def tell() -> None:
        running = service(tmp_path)
        loop, reading = asyncio.get_running_loop(), threading.Event()

        async def pixels() -> None:
            reading.set()
            await asyncio.sleep(0.2)

        def read() -> None:
            asyncio.run_coroutine_threadsafe(pixels(), loop).result(10)

        work = asyncio.create_task(running.whole_image_executor.run(read))
        await asyncio.to_thread(reading.wait, 10)
        await asyncio.wait_for(running.stop(), 10)
        await work

    asyncio.run(tell())
