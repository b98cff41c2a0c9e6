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

from segserve.encode.encode_request import EncodeRequest
from segserve.encode.encoder import LocalEncoder
from segserve.errors import BadInput, BrokenModel, Busy, CacheUnavailable, ImageNotFound, OutOfMemory
from segserve.images.region_reader import RegionReader
from segserve.memory_budget import MemoryBudget
from segserve.metrics import Metrics
from segserve.store import redis_keys
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import ImageRecord, Preprocess, Priority, ReadOptions, Region, Size
from tests.quotas import NO_QUOTA


class Model:
    """Embeds an image as its mean; runs while `go` is set, and takes at most `max_images` at a time."""

    def __init__(self) -> None:
        self.name, self.bundle, self.embedding_digest = "m", SimpleNamespace(digest="d"), "d"
        self.preprocess = Preprocess(8, (0, 0, 0), (1, 1, 1), "stretch", None)
        self.go, self.max_images = threading.Event(), 8
        self.go.set()
        self.batches: list[list[int]] = []

    def encode_batch(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        self.go.wait()
        if len(images) > self.max_images:
            raise OutOfMemory
        means = images.mean(axis=(1, 2, 3))
        self.batches.append([round(float(m)) for m in means])
        return [{"embedding": np.full((1, 1, 1), m, np.float32)} for m in means]


class CacheThatIsAway:
    """A cache whose Redis is away: embeddings are answered all the same."""

    async def put_embedding(self, *args: object) -> None:
        raise CacheUnavailable


class EncoderWithModel:
    """An encoder over a folder of grey images; image n is grey of value n."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.model, self.metrics = Model(), Metrics()
        self.store = ImageStore(open_store(None, folder), NO_QUOTA)
        options = {"max_batch": 4, "max_waiting": 8, **limits}

        async def get(*arguments: object) -> Model:
            return self.model

        registry = SimpleNamespace(get=get)
        read_pool, memory = ThreadPoolExecutor(2), MemoryBudget(1 << 30, "", max_wait_s=60)
        self.encoder = LocalEncoder(
            self.store,
            RegionReader(self.store, read_pool, memory, 10_000),
            cast(RedisCache, CacheThatIsAway()),
            cast(Any, registry),
            read_pool,
            self.metrics,
            **options,
        )

    async def add(self, value: int, tenant: str = "t") -> str:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
        image_id = f"{value:064x}"
        record = ImageRecord(image_id, Size(8, 8), ReadOptions(), 1, 0.0)
        await self.store.put(tenant, record, file)
        return image_id

    def encode(
        self,
        value: int,
        priority: Priority = Priority.INTERACTIVE,
        client: str | None = None,
        tenant: str = "t",
        timings: Timings | None = None,
    ) -> "asyncio.Task[bytes]":
        request = EncodeRequest(tenant, f"{value:064x}", "m", "d", priority, source=client)
        return asyncio.create_task(self.encoder.encode(request, timings or Timings()))


def run_steps(
    steps: Callable[[EncoderWithModel], Awaitable[None]], folder: Path, **limits: int
) -> EncoderWithModel:
    setup = EncoderWithModel(folder, **limits)

    async def run() -> None:
        for value in range(30):
            await setup.add(value)
        for value in range(30, 40):
            await setup.add(value, "other")
        await asyncio.wait_for(steps(setup), 30)
        setup.model.go.set()
        await setup.encoder.close()

    asyncio.run(run())
    return setup


def count_ready(setup: EncoderWithModel) -> int:
    return sum(len(queue) for queue in setup.encoder._ready.values())


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_an_idle_device_runs_at_once_and_a_busy_one_gathers(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(0)]
        await wait_until(lambda: setup.encoder._running_batches)
        tasks += [setup.encode(value) for value in range(1, 7)]
        await wait_until(lambda: count_ready(setup) == 6)
        setup.model.go.set()
        answers = await asyncio.gather(*tasks)
        assert [float(unpack_embedding(a)["embedding"][0, 0, 0]) for a in answers] == list(range(7))

    setup = run_steps(steps, tmp_path)
    assert [len(batch) for batch in setup.model.batches] == [1, 4, 2]


def test_images_of_a_batch_share_its_time_and_an_image_counts_once(tmp_path: Path) -> None:
    timings = [Timings() for _ in range(6)]

    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(0, timings=timings[0])]
        await wait_until(lambda: setup.encoder._running_batches)
        tasks += [setup.encode(value, timings=timings[value]) for value in range(1, 5)]
        tasks.append(setup.encode(4, timings=timings[5]))
        await wait_until(lambda: count_ready(setup) == 4)
        setup.model.go.set()
        await asyncio.gather(*tasks)

    assert [len(batch) for batch in run_steps(steps, tmp_path).model.batches] == [1, 4]
    alone, *together, waited = timings
    assert alone.encoder_s == alone.seconds["encode"] > 0
    for each in together:
        assert each.encoder_s == pytest.approx(each.seconds["encode"] / 4)
        assert each.encoder_s > 0
    assert waited.encoder_s == 0


def test_interactive_goes_first_and_batch_work_never_fills_the_queue(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(0, Priority.BATCH)]
        await wait_until(lambda: setup.encoder._running_batches)
        tasks += [
            setup.encode(value, Priority.BATCH) for value in range(1, 7)
        ]  # 2 are read, 4 wait: half of the queue
        await wait_until(lambda: count_ready(setup) == 2)
        with pytest.raises(Busy):
            await setup.encode(7, Priority.BATCH)
        tasks += [setup.encode(10), setup.encode(11)]
        tasks += [setup.encode(6)]  # a user clicks on an image of the batch
        await wait_until(
            lambda: count_ready(setup) == 4
        )  # 2 interactive ones are read, however many batch ones are
        setup.model.go.set()
        await asyncio.gather(*tasks)

    setup = run_steps(steps, tmp_path, max_batch=1)
    order = [value for batch in setup.model.batches for value in batch]
    assert order[0] == 0
    assert {*order[1:3]} < {6, 10, 11}  # read ahead, before the batch images that were read ahead too
    assert max(order.index(10), order.index(11)) < order.index(3)
    assert (
        order[-1] != 6
    )  # it was asked for last; others may be read at the same time, and be ready before it
    assert 'segserve_rejections_total{reason="encode_queue"} 1.0' in setup.metrics.expose().decode()


def test_a_full_queue_refuses_and_the_same_image_takes_one_slot(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        first = setup.encode(0)
        await wait_until(lambda: setup.encoder._running_batches)
        others = [setup.encode(value) for value in range(1, 11)]  # 2 read, 8 wait
        await wait_until(lambda: count_ready(setup) == 2)
        with pytest.raises(Busy) as refusal:
            await setup.encode(11)
        assert refusal.value.retry_after_s > 0
        again = [setup.encode(5) for _ in range(20)]
        await asyncio.sleep(0)
        setup.model.go.set()
        await asyncio.gather(first, *others, *again)

    setup = run_steps(steps, tmp_path, max_batch=1)
    assert sorted(v for batch in setup.model.batches for v in batch) == list(range(11))
    assert 'segserve_encoded_images_total{model="m"} 11.0' in setup.metrics.expose().decode()


def test_clients_take_turns_and_none_fills_the_queue(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(0, client="busy")]
        await wait_until(lambda: setup.encoder._running_batches)
        tasks += [setup.encode(value, client="busy") for value in range(1, 10)]  # 2 read, 7 wait: all but one
        await wait_until(lambda: count_ready(setup) == 2)
        with pytest.raises(Busy, match="one address"):
            await setup.encode(10, client="busy")
        tasks += [setup.encode(20, client="calm")]
        await asyncio.sleep(0)
        setup.model.go.set()
        await asyncio.gather(*tasks)

    setup = run_steps(steps, tmp_path, max_batch=1)
    order = [value for batch in setup.model.batches for value in batch]
    # Behind those that run or are read already, and one whose turn came before.
    assert order.index(20) <= 5
    assert sorted(order) == [*range(10), 20]
    assert 'segserve_rejections_total{reason="client_encode_queue"} 1.0' in setup.metrics.expose().decode()


@pytest.mark.parametrize("priority", list(Priority))
def test_a_tenants_image_waits_for_none_that_another_tenant_has_queued(
    tmp_path: Path, priority: Priority
) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(0, priority, "a")]
        await wait_until(lambda: setup.encoder._running_batches)
        # From many addresses, none of which has all of its share.
        tasks += [setup.encode(value, priority, f"client {value}") for value in range(1, 10)]
        await wait_until(lambda: count_ready(setup) == 2)
        tasks += [setup.encode(30, priority, "b", tenant="other")]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="of one tenant"):
            await setup.encode(10, priority, "client 10")
        if priority is Priority.INTERACTIVE:
            await wait_until(lambda: count_ready(setup) == 3)
        setup.model.go.set()
        await asyncio.gather(*tasks)

    setup = run_steps(steps, tmp_path, max_batch=1, max_waiting=9 if priority is Priority.INTERACTIVE else 18)
    order = [value for batch in setup.model.batches for value in batch]
    # Behind the one that runs; a batch image also behind the two that are read already, and one that is read beside it.
    assert order.index(30) <= (1 if priority is Priority.INTERACTIVE else 4)
    assert sorted(order) == [*range(10), 30]


def test_one_failure_harms_no_other(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(value) for value in (0, 1, 99, 2)]
        await wait_until(lambda: tasks[2].done())
        setup.model.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(a) for a in answers] == [bytes, bytes, ImageNotFound, bytes]
        with pytest.raises(BrokenModel):
            await setup.encoder.encode(EncodeRequest("t", f"{3:064x}", "m", "another"), Timings())

    run_steps(steps, tmp_path)


def test_out_of_memory_means_a_smaller_batch_then_an_error(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        setup.model.max_images = 1
        tasks = [setup.encode(0)]
        await wait_until(lambda: setup.encoder._running_batches)
        tasks += [setup.encode(value) for value in range(1, 5)]
        await wait_until(lambda: count_ready(setup) == 4)
        setup.model.go.set()
        await asyncio.gather(*tasks)
        setup.model.max_images = 0
        with pytest.raises(OutOfMemory):
            await setup.encode(7)
        setup.model.max_images = 8
        await setup.encode(7)

    assert sorted(run_steps(steps, tmp_path).model.batches) == [[0], [1], [2], [3], [4], [7]]


def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    async def steps(setup: EncoderWithModel) -> None:
        setup.model.go.clear()
        tasks = [setup.encode(value) for value in range(5)]
        await wait_until(lambda: setup.encoder._running_batches)
        closing = asyncio.create_task(setup.encoder.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await setup.encode(9)
        setup.model.go.set()
        await closing
        assert len(await asyncio.gather(*tasks)) == 5

    run_steps(steps, tmp_path)


def test_a_region_is_encoded_as_an_image_of_its_own(tmp_path: Path) -> None:
    def request(region: Region | None) -> EncodeRequest:
        return EncodeRequest("t", "f" * 64, "m", "d", region=region)

    async def steps(setup: EncoderWithModel) -> None:
        halves = np.repeat(np.array([[10, 200]], np.uint8), 8, axis=0).repeat(4, axis=1)
        file = io.BytesIO()
        Image.fromarray(halves).save(file, "PNG")
        await setup.store.put("t", ImageRecord("f" * 64, Size(8, 8), ReadOptions(), 1, 0.0), file)
        regions = (None, Region(0, 0, 4, 8), Region(4, 2, 4, 3), Region(0, 0, 16, 16))
        answers = await asyncio.gather(*(setup.encoder.encode(request(r), Timings()) for r in regions))
        assert [float(unpack_embedding(a)["embedding"][0, 0, 0]) for a in answers][:3] == [105, 10, 200]
        beside_nothing = float(unpack_embedding(answers[3])["embedding"][0, 0, 0])
        assert beside_nothing == pytest.approx(105 / 4, abs=1)
        for outside in (Region(5, 0, 4, 8), Region(0, 0, 0, 8), Region(-1, 0, 4, 4)):
            with pytest.raises(BadInput) as refusal:
                await setup.encoder.encode(request(outside), Timings())
            assert refusal.value.field == "region"

    run_steps(steps, tmp_path)


def test_a_regions_embedding_has_a_key_of_its_own() -> None:
    regions = (None, Region(0, 0, 8, 8), Region(8, 0, 8, 8), Region(0, 0, 8, 16))
    assert len({redis_keys.embedding("t", "i", "d", region) for region in regions}) == 4
