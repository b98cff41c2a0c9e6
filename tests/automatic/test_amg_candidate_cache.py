"""AMG candidates of a grid: decoded once for all waiters, cancelled with the last one, bounded in memory."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from segserve.automatic import amg_candidate_cache
from segserve.automatic.amg_candidate_cache import AmgCandidateCache
from segserve.automatic.amg_candidates import AmgCandidate, AmgCandidates, LogitsPatch
from segserve.automatic.point_grids import GridRegion
from segserve.bounded_executor import BoundedExecutor
from segserve.errors import TooLarge
from segserve.metrics import Metrics
from segserve.timing import Timings
from segserve.types import Region

GRID = GridRegion(Region(0, 0, 64, 64), 16)  # 256 points, in 8 batches
MODEL = cast(Any, SimpleNamespace(embedding_digest="d"))
PATCH = LogitsPatch(np.zeros((8, 8), np.float16), 0, 0)


class CountingCache:
    """A candidate cache whose decoder takes 20 ms per batch, and counts the batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def return_none(*args: object) -> None: ...

        self.batches = 0
        executor = BoundedExecutor(1, 4, Metrics())
        stub = SimpleNamespace(get_record=return_none, get_prepared=return_none)
        self.cache = AmgCandidateCache(
            cast(Any, stub), cast(Any, stub), executor, ThreadPoolExecutor(1), Metrics(), 1 << 24
        )
        monkeypatch.setattr(amg_candidate_cache, "decode_points", self.decode)

    def decode(self, model: object, image: object, points: Any, *args: object) -> list[AmgCandidate]:
        self.batches += 1
        time.sleep(0.02)
        return [AmgCandidate((x, y), 1.0, PATCH) for x, y in points.tolist()]

    async def get(self, offset: float = 1.0) -> AmgCandidates:
        return await self.cache.get("t", "i", MODEL, GRID, None, offset, Timings())


def test_a_grid_is_decoded_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        cache = CountingCache(monkeypatch)
        results = await asyncio.gather(*(cache.get() for _ in range(3)))
        assert (cache.batches, len(results[0].items)) == (8, 256)
        assert await cache.get() is results[0] is results[2]
        assert cache.batches == 8
        assert results[0].nbytes == AmgCandidates(results[0].depth, results[0].items).nbytes

    asyncio.run(scenario())


def test_decoding_continues_for_remaining_waiters_and_ends_with_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        cache = CountingCache(monkeypatch)
        two = [asyncio.create_task(cache.get()) for _ in range(2)]
        while not cache.batches:
            await asyncio.sleep(0.001)
        two[0].cancel()
        await asyncio.sleep(0.05)
        assert not two[1].done()
        assert cache.batches > 1
        two[1].cancel()
        await asyncio.gather(*two, return_exceptions=True)
        started = cache.batches
        await asyncio.sleep(0.1)
        assert cache.batches <= started + 1 < 8
        assert len((await cache.get()).items) == 256

    asyncio.run(scenario())


def test_candidates_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        cache = CountingCache(monkeypatch)
        with pytest.raises(TooLarge, match="before they are filtered"):
            await cache.get(32.0)
        assert cache.batches == 2

    monkeypatch.setattr(amg_candidate_cache, "MAX_GRID_BYTES", 64 * (1024 + PATCH.logits.nbytes) - 1)
    asyncio.run(scenario())
