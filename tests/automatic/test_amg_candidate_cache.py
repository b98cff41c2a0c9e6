"""Grids of candidates: made once for all who want them, given up with the last, bounded in memory."""

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

PART = GridRegion(Region(0, 0, 64, 64), 16)  # 256 points, in 8 pieces
MODEL = cast(Any, SimpleNamespace(bundle=SimpleNamespace(digest="d")))
PATCH = LogitsPatch(np.zeros((8, 8), np.float16), 0, 0)


class Bench:
    """Grids whose decoder takes 20 ms for a piece, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def answer(*args: object) -> None: ...

        self.pieces = 0
        self.turns = BoundedExecutor(1, 4, Metrics())
        parts = SimpleNamespace(get_record=answer, get_prepared=answer)
        self.grids = AmgCandidateCache(
            cast(Any, parts), cast(Any, parts), self.turns, ThreadPoolExecutor(1), Metrics(), 1 << 24
        )
        monkeypatch.setattr(amg_candidate_cache, "decode_points", self.decode)

    def decode(self, model: object, image: object, points: Any, *args: object) -> list[AmgCandidate]:
        self.pieces += 1
        time.sleep(0.02)
        return [AmgCandidate((x, y), 1.0, PATCH) for x, y in points.tolist()]

    async def get(self, offset: float = 1.0) -> AmgCandidates:
        return await self.grids.get("t", "i", MODEL, PART, None, offset, Timings())


def test_it_is_made_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell() -> None:
        bench = Bench(monkeypatch)
        found = await asyncio.gather(*(bench.get() for _ in range(3)))
        assert (bench.pieces, len(found[0].found)) == (8, 256)
        assert await bench.get() is found[0] is found[2]
        assert bench.pieces == 8
        assert found[0].nbytes == AmgCandidates(found[0].reach, found[0].found).nbytes

    asyncio.run(tell())


def test_it_goes_on_for_who_is_left_and_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell() -> None:
        bench = Bench(monkeypatch)
        two = [asyncio.create_task(bench.get()) for _ in range(2)]
        while not bench.pieces:
            await asyncio.sleep(0.001)
        two[0].cancel()
        await asyncio.sleep(0.05)
        assert not two[1].done()
        assert bench.pieces > 1
        two[1].cancel()
        await asyncio.gather(*two, return_exceptions=True)
        begun = bench.pieces
        await asyncio.sleep(0.1)
        assert bench.pieces <= begun + 1 < 8
        assert len((await bench.get()).found) == 256

    asyncio.run(tell())


def test_candidates_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell() -> None:
        bench = Bench(monkeypatch)
        with pytest.raises(TooLarge, match="before they are filtered"):
            await bench.get(32.0)
        assert bench.pieces == 2

    monkeypatch.setattr(amg_candidate_cache, "MAX_GRID_BYTES", 64 * (1024 + PATCH.logits.nbytes) - 1)
    asyncio.run(tell())
