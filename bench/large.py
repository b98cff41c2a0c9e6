"""A picture of 20,000 x 20,000 pixels: uploaded over HTTP, clicked, refused by /v1/automatic; and what service and
encoder worker hold in memory meanwhile."""

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

from bench.common import THREADS, Line, at_most

EDGE = 20_000
CLICKS = 20
PATTERN = 1000  # pixels; repeated over the picture
GIB = 1 << 30


def pattern() -> tuple[np.ndarray, np.ndarray]:
    """[PATTERN, PATTERN, 3] of bright cells on a dark, noisy ground, and the cells' centres [n, 2] (x, y)."""
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(50, PATTERN, 100), np.arange(50, PATTERN, 100)), -1).reshape(
        -1, 2
    )
    y, x = np.mgrid[:PATTERN, :PATTERN]
    values = rng.normal(25, 6, (PATTERN, PATTERN))
    for cx, cy in centres:
        values += 150 / (1 + np.exp((np.hypot(x - cx, y - cy) - 30) / 2))
    grey = values.clip(0, 255).astype(np.uint8)
    return np.stack([grey, grey // 2, 255 - grey], axis=2), centres


def write(folder: Path) -> list[Path]:
    """The same picture as a TIFF in tiles and as a PNG, without ever holding it."""
    values, _ = pattern()
    image = pyvips.Image.new_from_array(values).replicate(EDGE // PATTERN, EDGE // PATTERN)
    image = image.copy(interpretation="srgb")
    image.tiffsave(str(folder / "large.tif"), tile=True, compression="deflate", bigtiff=True)
    image.pngsave(str(folder / "large.png"), compression=1)
    return [folder / "large.tif", folder / "large.png"]


class Memory:
    """Resident bytes of processes, in all and at most, looked at ten times a second."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids, self.peaks, self.together = pids, dict.fromkeys(pids, 0), 0
        self.kernel_peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            now = {name: resident(pid, "VmRSS") for name, pid in self._pids.items()}
            self.peaks = {name: max(self.peaks[name], now[name]) for name in now}
            self.together = max(self.together, sum(now.values()))

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self.kernel_peaks = {name: resident(pid, "VmHWM") for name, pid in self._pids.items()}


def resident(pid: int, line: str) -> int:
    """Bytes; VmRSS is now, VmHWM the most since the start."""
    found = [
        row.split() for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith(line)
    ]
    return 1024 * int(found[0][1])


def timed(call: Any, *args: Any, **kwargs: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(*args, **kwargs), time.perf_counter() - start


def measure() -> list[Line]:
    with tempfile.TemporaryDirectory() as name:
        return run(Path(name))


def run(folder: Path) -> list[Line]:
    pictures = write(folder)
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
        "service": resident(server.process.pid, "VmRSS"),
        "worker": resident(encoder.process.pid, "VmRSS"),
    }
    memory = Memory({"service": server.process.pid, "worker": encoder.process.pid})
    lines: list[Line] = []
    try:
        with memory.watched():
            for picture in pictures:
                lines += use(server, picture)
        kept = subprocess.run(
            ["du", "-sb", str(folder / "data" / "objects")], capture_output=True, text=True, check=True
        )
        redis_bytes = resident(redis.process.pid, "VmHWM")
    finally:
        server.stop()
        encoder.stop()
        redis.kill()
    lines += [
        Line("objects kept for both pictures, tiles included", f"{int(kept.stdout.split()[0]) / 1e9:.2f} GB"),
        *(Line(f"{n}: resident when ready", f"{v / GIB:.2f} GiB") for n, v in before.items()),
        *(
            Line(f"{n}: resident at most (VmHWM)", f"{v / GIB:.2f} GiB")
            for n, v in memory.kernel_peaks.items()
        ),
        Line("Redis: resident at most, not counted", f"{redis_bytes / GIB:.2f} GiB"),
        at_most("service and worker together, at the same moment", memory.together / GIB, 4, "GiB"),
        at_most("sum of both's own peaks", sum(memory.kernel_peaks.values()) / GIB, 4, "GiB"),
    ]
    return lines


def use(server: Server, picture: Path) -> list[Line]:
    """What somebody does with a large picture."""
    name = f"{picture.suffix[1:].upper()} of {picture.stat().st_size / 1e6:.0f} MB"
    with picture.open("rb") as file:
        answer, seconds = timed(server.client.post, "/v1/images", content=file)
    assert answer.status_code == 201, answer.text
    image_id = answer.json()["image_id"]
    assert (answer.json()["width"], answer.json()["height"]) == (EDGE, EDGE)
    lines = [Line(f"{name}: upload, read, cut into tiles, stored", f"{seconds:.1f} s")]

    _, centres = pattern()
    rng = np.random.default_rng(1)
    places = PATTERN * rng.integers(0, EDGE // PATTERN, (CLICKS, 2)) + rng.permutation(centres)[:CLICKS]
    first, again, good = [], [], 0
    for x, y in places.tolist():
        answer, seconds = timed(server.click, image_id, x, y)
        assert answer.status_code == 200, answer.text
        first.append(seconds)
        again.append(timed(server.click, image_id, x + 3, y)[1])
        mask = answer.json()["results"][0]["masks"][0]
        good += 0.6 < mask["area"] / (np.pi * 30**2) < 1.6
    lines += [
        Line(f"{name}: first click on a tile, median of {CLICKS}", f"{1000 * np.median(first):.0f} ms"),
        Line(f"{name}: next click on it, median", f"{1000 * np.median(again):.0f} ms"),
        Line(f"{name}: clicks that found a cell of the right area", f"{good} of {CLICKS}"),
    ]
    box = {"box": [3000, 3000, 7000, 6500]}
    answer, seconds = timed(
        server.client.post, "/v1/segment", json={"image_id": image_id, "prompts": [box], "format": "polygon"}
    )
    assert answer.status_code == 200, answer.text
    lines.append(Line(f"{name}: a box of 4000 x 3500, as polygons", f"{seconds:.2f} s"))
    refused = server.client.post("/v1/automatic", json={"image_id": image_id, "method": "ais"})
    assert refused.status_code == 413, refused.text
    return [*lines, Line(f"{name}: /v1/automatic", f"413: {refused.json()['detail']}")]
