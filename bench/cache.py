"""Does a click cost more when many embeddings are cached? And how quickly is the first one answered?"""

import tempfile
import time
from pathlib import Path

import numpy as np
import redis
from tests.serving import Server

from bench.common import Line, at_most, interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.registry import BUILT_IN_MODELS
from segserve.store import redis_keys

EMBEDDINGS = 10_000
NUCLEI = Path(__file__).parent.parent / "examples" / "nuclei.png"


def measure() -> list[Line]:
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        server = Server(Path(work), cache_mb="4096", log_level="error")
        try:
            image_id = server.upload(NUCLEI)
            assert server.click(image_id, 413, 190).status_code == 200
            first = time.perf_counter() - start
            lines = [at_most("from starting `segserve serve` to the first answered click", first, 5, "s")]
            return lines + many(server, image_id)
        finally:
            server.stop()


def many(server: Server, image_id: str) -> list[Line]:
    def click() -> None:
        assert server.click(image_id, 413, 190).status_code == 200

    alone = interleaved_ms({"one": click}, repeats=100)["one"]
    digest = Bundle(BUILT_IN_MODELS / "starter").digest
    with redis.Redis.from_url(f"unix://{server.data_dir}/redis/redis.sock") as connection:
        value = connection.get(redis_keys.embedding("default", image_id, digest))
        pipeline = connection.pipeline(transaction=False)
        for number in range(EMBEDDINGS):
            pipeline.set(redis_keys.embedding("default", f"{number:064x}", digest), value)
            if number % 200 == 199:
                pipeline.execute()
        held = connection.dbsize()
    crowded = interleaved_ms({"many": click}, repeats=100)["many"]
    return [
        Line("a click with the starter, one embedding cached", f"{alone:.1f} ms"),
        Line(f"a click with the starter, {held} entries cached", f"{crowded:.1f} ms"),
        at_most("their ratio", crowded / alone, 1.15, "x"),
        Line("bytes of a starter embedding", str(np.size(value) and len(value))),
    ]
