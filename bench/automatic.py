"""What it costs to change a threshold of automatic segmentation, against the first answer, over HTTP."""

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.serving import Server

from bench.common import THREADS, Line, at_least

EXAMPLE = Path(__file__).parent.parent / "examples/nuclei.png"
IMAGES = 9
THRESHOLDS = (0.35, 0.4, 0.45, 0.55, 0.6)


def pictures(times: int) -> Iterator[bytes]:
    """Pictures of nuclei, `times` the example's size, that no cache knows."""
    pixels = np.asarray(Image.open(EXAMPLE))
    for index in range(IMAGES):
        data = io.BytesIO()
        Image.fromarray(np.roll(np.tile(pixels, (times, times)), index)).save(data, "PNG")
        yield data.getvalue()


def seconds(server: Server, image_id: str, **params: Any) -> float:
    body = {"image_id": image_id, "method": "ais", "params": params}
    start = time.perf_counter()
    server.client.post("/v1/automatic", json=body).raise_for_status()
    return time.perf_counter() - start


def ais(server: Server, times: int) -> tuple[float, float]:
    """Medians in milliseconds: the first answer; an answer with another threshold."""
    first, changed = [], []
    for picture in pictures(times):
        image_id = server.upload(picture)
        first.append(seconds(server, image_id))
        changed += [seconds(server, image_id, center_distance_threshold=t) for t in THRESHOLDS]
    return 1000 * float(np.median(first[1:])), 1000 * float(np.median(changed[1:]))


def measure() -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), encode_threads=str(THREADS), decode_threads=str(THREADS))
        server.wait_ready()
        try:
            small, large = ais(server, 1), ais(server, 2)
        finally:
            server.stop()
    lines = []
    for size, (first, changed), target in (("696x520", small, 5.0), ("1392x1040", large, None)):
        lines += [
            Line(f"AIS with the starter on {size}, the first answer (PNG label map)", f"{first:.0f} ms"),
            Line(f"AIS with the starter on {size}, another threshold", f"{changed:.0f} ms"),
        ]
        what, ratio = f"another AIS threshold on {size} against the first answer", first / changed
        lines.append(at_least(what, ratio, target) if target else Line(what, f"{ratio:.2f}x"))
    return lines
