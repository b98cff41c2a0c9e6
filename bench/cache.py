"""The time of a click with few and with many cached embeddings, and the time from start to the first click."""

import tempfile
import time
from pathlib import Path

import numpy as np
import redis
from tests.serving import Server

from bench.measuring import Measurement, at_most, measure_interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.registry import BUILT_IN_MODELS
from segserve.store import redis_keys

EMBEDDINGS = 10_000
NUCLEI_IMAGE = Path(__file__).parent.parent / "examples" / "nuclei.png"


def measure() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        server = Server(Path(work), cache_mb="4096", log_level="error")
        try:
            image_id = server.upload(NUCLEI_IMAGE)
            assert server.click(image_id, 413, 190).status_code == 200
            first = time.perf_counter() - start
            rows = [at_most("from starting `segserve serve` to the first answered click", first, 5, "s")]
            return rows + measure_full_cache(server, image_id)
        finally:
            server.stop()


def measure_full_cache(server: Server, image_id: str) -> list[Measurement]:
    """Compare a click with one cached embedding and with many."""

    def click() -> None:
        assert server.click(image_id, 413, 190).status_code == 200

    alone = measure_interleaved_ms({"one": click}, repeats=100)["one"]
    digest = Bundle(BUILT_IN_MODELS / "starter").digest
    with redis.Redis.from_url(f"unix://{server.data_dir}/redis/redis.sock") as connection:
        value = connection.get(redis_keys.embedding("default", image_id, digest))
        pipeline = connection.pipeline(transaction=False)
        for number in range(EMBEDDINGS):
            pipeline.set(redis_keys.embedding("default", f"{number:064x}", digest), value)
            if number % 200 == 199:
                pipeline.execute()
        cached = connection.dbsize()
    crowded = measure_interleaved_ms({"many": click}, repeats=100)["many"]
    return [
        Measurement("a click with the starter, one embedding cached", f"{alone:.1f} ms"),
        Measurement(f"a click with the starter, {cached} entries cached", f"{crowded:.1f} ms"),
        at_most("their ratio", crowded / alone, 1.15, "x"),
        Measurement("bytes of a starter embedding", str(np.size(value) and len(value))),
    ]
