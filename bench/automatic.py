"""The time of AIS with another threshold, against the first answer, over HTTP."""

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.serving import Server

from bench.measuring import THREADS, Measurement, at_least

NUCLEI_IMAGE = Path(__file__).parent.parent / "examples/nuclei.png"
IMAGES = 9
THRESHOLDS = (0.35, 0.4, 0.45, 0.55, 0.6)


def new_images(tiles: int) -> Iterator[bytes]:
    """Yield images of nuclei as PNG that are in no cache, of `tiles` x `tiles` copies of the example."""
    pixels = np.asarray(Image.open(NUCLEI_IMAGE))
    for index in range(IMAGES):
        data = io.BytesIO()
        Image.fromarray(np.roll(np.tile(pixels, (tiles, tiles)), index)).save(data, "PNG")
        yield data.getvalue()


def measure_seconds(server: Server, image_id: str, **params: Any) -> float:
    """Return the seconds of one request."""
    body = {"image_id": image_id, "method": "ais", "params": params}
    start = time.perf_counter()
    server.client.post("/v1/automatic", json=body).raise_for_status()
    return time.perf_counter() - start


def measure_ais(server: Server, tiles: int) -> tuple[float, float]:
    """Return median milliseconds of (the first answer, an answer with another threshold)."""
    first, changed = [], []
    for image in new_images(tiles):
        image_id = server.upload(image)
        first.append(measure_seconds(server, image_id))
        changed += [measure_seconds(server, image_id, center_distance_threshold=t) for t in THRESHOLDS]
    return 1000 * float(np.median(first[1:])), 1000 * float(np.median(changed[1:]))


def measure() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), encode_threads=str(THREADS), decode_threads=str(THREADS))
        server.wait_ready()
        try:
            small, large = measure_ais(server, 1), measure_ais(server, 2)
        finally:
            server.stop()
    rows = []
    for size, (first, changed), target in (("696x520", small, 5.0), ("1392x1040", large, None)):
        rows += [
            Measurement(
                f"AIS with the starter on {size}, the first answer (PNG label map)", f"{first:.0f} ms"
            ),
            Measurement(f"AIS with the starter on {size}, another threshold", f"{changed:.0f} ms"),
        ]
        label, ratio = f"another AIS threshold on {size} against the first answer", first / changed
        rows.append(at_least(label, ratio, target) if target else Measurement(label, f"{ratio:.2f}x"))
    return rows
