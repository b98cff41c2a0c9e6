"""An image of 20,000 x 20,000 pixels: upload, clicks, the refusal of /v1/automatic, and the resident memory of service
and encoder worker."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyvips
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Server

from bench.measuring import THREADS, Measurement, at_most

IMAGE_PX = 20_000  # the edge
CLICKS = 20
PATTERN_PX = 1000  # the pattern is repeated over the image
CELL_RADIUS_PX = 30
GIB = 1 << 30


def draw_pattern() -> tuple[np.ndarray, np.ndarray]:
    """Return an image [PATTERN_PX, PATTERN_PX, 3] of bright cells on dark noise, and their centres [n, 2] (x, y)."""
    rng = np.random.default_rng(0)
    centres = np.stack(
        np.meshgrid(np.arange(50, PATTERN_PX, 100), np.arange(50, PATTERN_PX, 100)), -1
    ).reshape(-1, 2)
    y, x = np.mgrid[:PATTERN_PX, :PATTERN_PX]
    values = rng.normal(25, 6, (PATTERN_PX, PATTERN_PX))
    for cx, cy in centres:
        values += 150 / (1 + np.exp((np.hypot(x - cx, y - cy) - CELL_RADIUS_PX) / 2))
    grey = values.clip(0, 255).astype(np.uint8)
    return np.stack([grey, grey // 2, 255 - grey], axis=2), centres


def write_images(folder: Path) -> list[Path]:
    """Write the same image as a tiled TIFF and as a PNG, without having it in memory."""
    values, _ = draw_pattern()
    image = pyvips.Image.new_from_array(values).replicate(IMAGE_PX // PATTERN_PX, IMAGE_PX // PATTERN_PX)
    image = image.copy(interpretation="srgb")
    image.tiffsave(str(folder / "large.tif"), tile=True, compression="deflate", bigtiff=True)
    image.pngsave(str(folder / "large.png"), compression=1)
    return [folder / "large.tif", folder / "large.png"]


class MemoryMonitor:
    """`MemoryMonitor` samples the resident bytes of processes ten times a second.

    peaks: the largest sample of each process. max_total: the largest sum of one moment.
    kernel_peaks: the kernel's own peak of each process (VmHWM).
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids, self.peaks, self.max_total = pids, dict.fromkeys(pids, 0), 0
        self.kernel_peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            now = {name: read_resident_bytes(pid, "VmRSS") for name, pid in self._pids.items()}
            self.peaks = {name: max(self.peaks[name], now[name]) for name in now}
            self.max_total = max(self.max_total, sum(now.values()))

    @contextmanager
    def sampling(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self.kernel_peaks = {name: read_resident_bytes(pid, "VmHWM") for name, pid in self._pids.items()}


def read_resident_bytes(pid: int, line: str) -> int:
    """Return the resident bytes of a process. line: VmRSS for now, VmHWM for the peak since its start."""
    rows = [
        row.split() for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith(line)
    ]
    return 1024 * int(rows[0][1])


def measure_seconds(call: Any, *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """Return (the result of a call, its seconds)."""
    start = time.perf_counter()
    return call(*args, **kwargs), time.perf_counter() - start


def measure() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as name:
        return run_servers(Path(name))


def run_servers(folder: Path) -> list[Measurement]:
    """Start service, worker and Redis, use both images, and return times and memory."""
    images = write_images(folder)
    redis = ExternalRedis(Path(tempfile.mkdtemp(dir=folder)))
    shared = {"redis_url": redis.url, "encode_threads": str(THREADS), "log_level": "error"}
    encoder = Encoder(folder / "data", **shared)
    server = Server(
        folder / "data", **shared, encoder_url=f"ipv4:{encoder.target}", decode_threads=str(THREADS)
    )
    for each in (encoder, server):
        each.wait_ready()
    server.client = httpx.Client(base_url=server.url, timeout=3600)
    before = {
        "service": read_resident_bytes(server.process.pid, "VmRSS"),
        "worker": read_resident_bytes(encoder.process.pid, "VmRSS"),
    }
    memory = MemoryMonitor({"service": server.process.pid, "worker": encoder.process.pid})
    rows: list[Measurement] = []
    try:
        with memory.sampling():
            for image in images:
                rows += measure_image(server, image)
        stored = subprocess.run(
            ["du", "-sb", str(folder / "data" / "objects")], capture_output=True, text=True, check=True
        )
        redis_bytes = read_resident_bytes(redis.process.pid, "VmHWM")
    finally:
        server.stop()
        encoder.stop()
        redis.kill()
    rows += [
        Measurement(
            "stored objects of both images, tiles included", f"{int(stored.stdout.split()[0]) / 1e9:.2f} GB"
        ),
        *(Measurement(f"{n}: resident memory when ready", f"{v / GIB:.2f} GiB") for n, v in before.items()),
        *(
            Measurement(f"{n}: peak resident memory (VmHWM)", f"{v / GIB:.2f} GiB")
            for n, v in memory.kernel_peaks.items()
        ),
        Measurement("Redis: peak resident memory, not counted", f"{redis_bytes / GIB:.2f} GiB"),
        at_most("service and worker together, at the same moment", memory.max_total / GIB, 4, "GiB"),
        at_most("sum of the two peaks", sum(memory.kernel_peaks.values()) / GIB, 4, "GiB"),
    ]
    return rows


def measure_image(server: Server, image: Path) -> list[Measurement]:
    """Upload an image, click on cells, draw a large box, and ask for all objects."""
    name = f"{image.suffix[1:].upper()} of {image.stat().st_size / 1e6:.0f} MB"
    with image.open("rb") as file:
        response, seconds = measure_seconds(server.client.post, "/v1/images", content=file)
    assert response.status_code == 201, response.text
    image_id = response.json()["image_id"]
    assert (response.json()["width"], response.json()["height"]) == (IMAGE_PX, IMAGE_PX)
    rows = [Measurement(f"{name}: upload, read, cut into tiles, stored", f"{seconds:.1f} s")]

    _, centres = draw_pattern()
    rng = np.random.default_rng(1)
    points = (
        PATTERN_PX * rng.integers(0, IMAGE_PX // PATTERN_PX, (CLICKS, 2)) + rng.permutation(centres)[:CLICKS]
    )
    first, again, hits = [], [], 0
    for x, y in points.tolist():
        response, seconds = measure_seconds(server.click, image_id, x, y)
        assert response.status_code == 200, response.text
        first.append(seconds)
        again.append(measure_seconds(server.click, image_id, x + 3, y)[1])
        mask = response.json()["results"][0]["masks"][0]
        hits += 0.6 < mask["area"] / (np.pi * CELL_RADIUS_PX**2) < 1.6
    rows += [
        Measurement(
            f"{name}: first click on a tile, median of {CLICKS}", f"{1000 * np.median(first):.0f} ms"
        ),
        Measurement(f"{name}: next click on it, median", f"{1000 * np.median(again):.0f} ms"),
        Measurement(f"{name}: clicks that gave a mask of the right area", f"{hits} of {CLICKS}"),
    ]
    box = {"box": [3000, 3000, 7000, 6500]}
    response, seconds = measure_seconds(
        server.client.post, "/v1/segment", json={"image_id": image_id, "prompts": [box], "format": "polygon"}
    )
    assert response.status_code == 200, response.text
    rows.append(Measurement(f"{name}: a box of 4000 x 3500, as polygons", f"{seconds:.2f} s"))
    refused = server.client.post("/v1/automatic", json={"image_id": image_id, "method": "ais"})
    assert refused.status_code == 413, refused.text
    return [*rows, Measurement(f"{name}: /v1/automatic", f"413: {refused.json()['detail']}")]
