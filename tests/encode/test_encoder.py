"""The encoder's queue: what goes first, what goes together, what is refused, and that one failure harms no other."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from segserve.encode.encoder import EncodeRequest, LocalEncoder
from segserve.errors import BadInput, BrokenModel, Busy, CacheUnavailable, ImageNotFound, OutOfMemory
from segserve.images.region_reader import RegionReader
from segserve.metrics import Metrics
from segserve.store import keys
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import ImageRecord, Preprocess, Priority, ReadOptions, Region, Size


class Model:
    """Embeds an image as its mean; runs while `go` is set, and takes at most `fits` images at once."""

    def __init__(self) -> None:
        self.name, self.bundle = "m", SimpleNamespace(digest="d")
        self.preprocess = Preprocess(8, (0, 0, 0), (1, 1, 1), "stretch", None)
        self.go, self.fits = threading.Event(), 8
        self.go.set()
        self.batches: list[list[int]] = []

    def encode_batch(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        self.go.wait()
        if len(images) > self.fits:
            raise OutOfMemory
        means = images.mean(axis=(1, 2, 3))
        self.batches.append([round(float(m)) for m in means])
        return [{"embedding": np.full((1, 1, 1), m, np.float32)} for m in means]


class NoCache:
    """Stands where Redis is away: embeddings are answered all the same."""

    async def put_embedding(self, *args: object) -> None:
        raise CacheUnavailable


class Bench:
    """An encoder over a folder of grey images; image n is grey of value n."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.model, self.metrics = Model(), Metrics()
        self.store = ImageStore(open_store(None, folder), 0)
        options = {"max_batch": 4, "max_waiting": 8, **limits}

        async def get(*asked: object) -> Model:
            return self.model

        registry = SimpleNamespace(get=get)
        readers = ThreadPoolExecutor(2)
        self.encoder = LocalEncoder(
            self.store,
            RegionReader(self.store, readers, 10_000),
            cast(RedisCache, NoCache()),
            cast(Any, registry),
            readers,
            self.metrics,
            max_pixels=10_000,
            **options,
        )

    async def add(self, value: int) -> str:
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), (value, value, value)).save(picture, "PNG")
        image_id = f"{value:064x}"
        record = ImageRecord(image_id, Size(8, 8), ReadOptions(), 1, 0.0)
        await self.store.put("t", record, picture)
        return image_id

    def ask(self, value: int, priority: Priority = Priority.INTERACTIVE) -> "asyncio.Task[bytes]":
        wanted = EncodeRequest("t", f"{value:064x}", "m", "d", priority)
        return asyncio.create_task(self.encoder.encode(wanted, Timings()))


def story(tell: Callable[[Bench], Awaitable[None]], folder: Path, **limits: int) -> Bench:
    bench = Bench(folder, **limits)

    async def run() -> None:
        for value in range(30):
            await bench.add(value)
        await asyncio.wait_for(tell(bench), 30)
        bench.model.go.set()
        await bench.encoder.close()

    asyncio.run(run())
    return bench


async def settled(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_an_idle_device_runs_at_once_and_a_busy_one_gathers(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        tasks = [bench.ask(0)]
        await settled(lambda: bench.encoder._running)
        tasks += [bench.ask(value) for value in range(1, 7)]
        await settled(lambda: len(bench.encoder._ready) == 6)
        bench.model.go.set()
        answers = await asyncio.gather(*tasks)
        assert [float(unpack_embedding(a)["embedding"][0, 0, 0]) for a in answers] == list(range(7))

    bench = story(tell, tmp_path)
    assert [len(batch) for batch in bench.model.batches] == [1, 4, 2]


def test_interactive_goes_first_and_batch_work_never_fills_the_queue(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        tasks = [bench.ask(0, Priority.BATCH)]
        await settled(lambda: bench.encoder._running)
        tasks += [bench.ask(value, Priority.BATCH) for value in range(1, 7)]  # 2 read, 4 wait: its half
        await settled(lambda: len(bench.encoder._ready) == 2)
        with pytest.raises(Busy):
            await bench.ask(7, Priority.BATCH)
        tasks += [bench.ask(10), bench.ask(11)]
        tasks += [bench.ask(6)]  # somebody clicks on an image that the batch brought
        await settled(lambda: len(bench.encoder._ready) == 4)  # two of them, whatever the batch has there
        bench.model.go.set()
        await asyncio.gather(*tasks)

    bench = story(tell, tmp_path, max_batch=1)
    order = [value for batch in bench.model.batches for value in batch]
    assert order[0] == 0
    assert {*order[1:3]} < {6, 10, 11}
    assert max(order.index(value) for value in (6, 10, 11)) < order.index(3)
    assert 'segserve_rejections_total{reason="encode_queue"} 1.0' in bench.metrics.expose().decode()


def test_a_full_queue_refuses_and_the_same_image_takes_one_place(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        first = bench.ask(0)
        await settled(lambda: bench.encoder._running)
        others = [bench.ask(value) for value in range(1, 11)]  # 2 read, 8 wait
        await settled(lambda: len(bench.encoder._ready) == 2)
        with pytest.raises(Busy) as refusal:
            await bench.ask(11)
        assert refusal.value.retry_after_s > 0
        again = [bench.ask(5) for _ in range(20)]
        await asyncio.sleep(0)
        bench.model.go.set()
        await asyncio.gather(first, *others, *again)

    bench = story(tell, tmp_path, max_batch=1)
    assert sorted(v for batch in bench.model.batches for v in batch) == list(range(11))
    assert 'segserve_encoded_images_total{model="m"} 11.0' in bench.metrics.expose().decode()


def test_one_failure_harms_no_other(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        tasks = [bench.ask(value) for value in (0, 1, 99, 2)]
        await settled(lambda: tasks[2].done())
        bench.model.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(a) for a in answers] == [bytes, bytes, ImageNotFound, bytes]
        with pytest.raises(BrokenModel):
            await bench.encoder.encode(EncodeRequest("t", f"{3:064x}", "m", "another"), Timings())

    story(tell, tmp_path)


def test_out_of_memory_means_a_smaller_batch_then_an_error(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        bench.model.fits = 1
        tasks = [bench.ask(0)]
        await settled(lambda: bench.encoder._running)
        tasks += [bench.ask(value) for value in range(1, 5)]
        await settled(lambda: len(bench.encoder._ready) == 4)
        bench.model.go.set()
        await asyncio.gather(*tasks)
        bench.model.fits = 0
        with pytest.raises(OutOfMemory):
            await bench.ask(7)
        bench.model.fits = 8
        await bench.ask(7)

    assert sorted(story(tell, tmp_path).model.batches) == [[0], [1], [2], [3], [4], [7]]


def test_closing_finishes_what_was_taken_on(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.model.go.clear()
        tasks = [bench.ask(value) for value in range(5)]
        await settled(lambda: bench.encoder._running)
        closing = asyncio.create_task(bench.encoder.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await bench.ask(9)
        bench.model.go.set()
        await closing
        assert len(await asyncio.gather(*tasks)) == 5

    story(tell, tmp_path)


def test_a_region_is_encoded_as_an_image_of_its_own(tmp_path: Path) -> None:
    def wanted(region: Region | None) -> EncodeRequest:
        return EncodeRequest("t", "f" * 64, "m", "d", region=region)

    async def tell(bench: Bench) -> None:
        halves = np.repeat(np.array([[10, 200]], np.uint8), 8, axis=0).repeat(4, axis=1)
        picture = io.BytesIO()
        Image.fromarray(halves).save(picture, "PNG")
        await bench.store.put("t", ImageRecord("f" * 64, Size(8, 8), ReadOptions(), 1, 0.0), picture)
        regions = (None, Region(0, 0, 4, 8), Region(4, 2, 4, 3))
        answers = await asyncio.gather(*(bench.encoder.encode(wanted(r), Timings()) for r in regions))
        assert [float(unpack_embedding(a)["embedding"][0, 0, 0]) for a in answers] == [105, 10, 200]
        for outside in (Region(5, 0, 4, 8), Region(0, 0, 0, 8), Region(-1, 0, 4, 4)):
            with pytest.raises(BadInput) as refusal:
                await bench.encoder.encode(wanted(outside), Timings())
            assert refusal.value.field == "region"

    story(tell, tmp_path)


def test_a_regions_embedding_has_a_key_of_its_own() -> None:
    regions = (None, Region(0, 0, 8, 8), Region(8, 0, 8, 8), Region(0, 0, 8, 16))
    assert len({keys.embedding("t", "i", "d", region) for region in regions}) == 4
