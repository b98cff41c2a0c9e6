"""The life of a service: what it says when it cannot work, what it measures, and that it stops."""

import asyncio
import threading
from pathlib import Path

from segserve.app import EncodingService, Service
from segserve.device_memory import DeviceMemory
from segserve.settings import Settings
from tests.serving import Server
from tests.test_device_memory import FakeNvml


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder, redis_url="unix:///nowhere")


def test_a_device_that_is_not_there_is_refused_clearly(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path, device="cuda")
    image_id = server.upload(nuclei)
    refused = server.click(image_id, 413, 190)
    assert refused.status_code == 501
    assert refused.json()["type"] == "urn:segserve:problem:missing_dependency"
    assert "SEGSERVE_DEVICE=cuda needs a CUDA device" in refused.json()["detail"]
    assert "pip" not in refused.json()["remedy"], "a client cannot install anything there"
    ready = server.client.get("/readyz")
    assert ready.status_code == 503
    assert "CUDA device" in ready.json()["checks"]["models"]
    assert "segserve_device_memory_bytes{" not in server.client.get("/metrics").text
    assert server.stop() == 0


def test_the_memory_in_use_on_a_device_is_a_metric(tmp_path: Path) -> None:
    service = EncodingService(settings(tmp_path))
    service.device_memory = DeviceMemory(FakeNvml())

    async def wait_for_metric() -> str:
        await service.start(warm_up=False)
        while "segserve_device_memory_bytes{" not in (text := service.metrics.expose().decode()):
            await asyncio.sleep(0.05)
        await service.stop()
        return text

    text = asyncio.run(asyncio.wait_for(wait_for_metric(), 30))
    assert float(text.split('segserve_device_memory_bytes{device="0"} ')[1].split()[0]) == 5 << 30


def test_it_stops_while_a_whole_image_is_read(tmp_path: Path) -> None:
    """The thread that reads waits for the event loop, so the loop must not wait for the thread."""

    async def stop_while_reading() -> None:
        service = Service(settings(tmp_path))
        loop, is_reading = asyncio.get_running_loop(), threading.Event()

        async def read_pixels() -> None:
            is_reading.set()
            await asyncio.sleep(0.2)

        def read() -> None:
            asyncio.run_coroutine_threadsafe(read_pixels(), loop).result(10)

        work = asyncio.create_task(service.whole_image_executor.run(read))
        await asyncio.to_thread(is_reading.wait, 10)
        await asyncio.wait_for(service.stop(), 10)
        await work

    asyncio.run(stop_while_reading())
