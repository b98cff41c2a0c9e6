"""Candidates of automatic mask generation, decoded once and kept in this process.

Candidates of a deleted image are forgotten everywhere.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from segserve.automatic.amg_candidates import LOGIT_DEPTH, AmgCandidates, decode_points
from segserve.automatic.point_grids import GridRegion, make_point_grid
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings
from segserve.encode.prepared_cache import EmbeddingKey
from segserve.errors import TooLarge
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.store.image_store import ImageStore
from segserve.timing import Timings
from segserve.types import Priority, Region

MAX_GRID_BYTES = 1 << 30  # of one grid's candidates
MAX_CONCURRENT_GRIDS = 2  # grow: each may take MOST_BYTES
POINTS_PER_BATCH = 32  # points decoded at a time; other work on whole images gets its turn in between


@dataclass(frozen=True)
class GridKey:
    """embedding: of what was decoded on."""

    embedding: EmbeddingKey
    points_per_side: int


@dataclass
class PendingGrid:
    """Candidates that are being made. waiters: who wants them."""

    task: asyncio.Task[AmgCandidates]
    waiters: int = 0


class AmgCandidateCache:
    """Candidates by image, model, region and grid. workers: decode, a point each. max_bytes: of the candidates
    held in this process, least recently used out. For one thread: the event loop's."""

    def __init__(
        self,
        images: ImageStore,
        embeddings: Embeddings,
        turns: BoundedExecutor,
        workers: Executor,
        metrics: Metrics,
        max_bytes: int,
    ) -> None:
        self._images, self._embeddings, self._turns = images, embeddings, turns
        self._workers, self._metrics = workers, metrics
        self._held: LRUCache[GridKey, AmgCandidates] = LRUCache(
            max_bytes, getsizeof=lambda found: found.nbytes
        )
        self._running: dict[tuple[GridKey, float], PendingGrid] = {}
        self._growing = asyncio.Semaphore(MAX_CONCURRENT_GRIDS)

    async def get(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        part: GridRegion,
        region: Region | None,
        offset: float,
        timings: Timings,
    ) -> AmgCandidates:
        """Those of a part, which is all of the image or a region of it, fit for stability offsets up to `offset`.
        The caller has a place in the turns. Raises as `Embeddings.get_prepared` does."""
        key = GridKey(EmbeddingKey(tenant, image_id, model.bundle.digest, region), part.points_per_side)
        held, reach = self._held.get(key), max(offset, LOGIT_DEPTH)
        if held is not None and held.reach >= reach:
            self._metrics.whole_images.count_amg_grid("process")
            return held
        making = self._running.get((key, reach))
        if making is None:
            # A task of its own: a client that hangs up does not take the candidates away from the others.
            task = asyncio.create_task(self._make(key, model, part, reach, timings))
            making = self._running[key, reach] = PendingGrid(task)
        making.waiters += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiters -= 1
            if not making.waiters:  # done, failed, or given up by the last one, whose place it worked in
                making.task.cancel()
                if self._running.get((key, reach)) is making:
                    del self._running[key, reach]

    async def _make(
        self, key: GridKey, model: PromptableModel, part: GridRegion, reach: float, timings: Timings
    ) -> AmgCandidates:
        async with self._growing:
            return await self._decode(key, model, part, reach, timings)

    async def _decode(
        self, key: GridKey, model: PromptableModel, part: GridRegion, reach: float, timings: Timings
    ) -> AmgCandidates:
        at = key.embedding
        priority = None if at.region is None else Priority.BATCH
        image = await self._embeddings.get_prepared(
            at.tenant, at.image_id, model, timings, priority, at.region
        )
        candidates = AmgCandidates(reach, [])
        for points in split_points(make_point_grid(part)):
            candidates.add(
                await self._turns.run_in_slot(
                    decode_points, model, image, points, reach, self._workers, timings
                )
            )
            if candidates.nbytes > MAX_GRID_BYTES:
                raise TooLarge(
                    f"The grid's masks take more than {MAX_GRID_BYTES >> 20} MB before they are filtered.",
                    field="params.points_per_side",
                    remedy="Take fewer points a side, or a smaller stability_score_offset.",
                )
        await self._images.get_record(
            at.tenant, at.image_id
        )  # deleted meanwhile? Then nothing of it may be kept
        self._metrics.whole_images.count_amg_grid("decoder")
        if candidates.nbytes <= self._held.maxsize:
            self._held[key] = candidates
        self._report_held()
        return candidates

    def forget(self, tenant: str, image_id: str) -> None:
        for key in [
            k for k in self._held if (k.embedding.tenant, k.embedding.image_id) == (tenant, image_id)
        ]:
            del self._held[key]
        self._report_held()

    def images(self) -> set[tuple[str, str]]:
        """(tenant, image_id) of everything held."""
        return {(key.embedding.tenant, key.embedding.image_id) for key in self._held}

    def _report_held(self) -> None:
        self._metrics.caches.set_size("candidates", len(self._held), int(self._held.currsize))


def split_points(points: NDArray[np.float64]) -> Iterable[NDArray[np.float64]]:
    return (points[start : start + POINTS_PER_BATCH] for start in range(0, len(points), POINTS_PER_BATCH))
