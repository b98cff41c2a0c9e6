"""AMG candidates decoded once for all requests, and kept in this process.

A request with other thresholds repeats only the filters. The candidates of a deleted image are removed.
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

MAX_GRID_BYTES = 1 << 30  # memory of the candidates of one grid
MAX_CONCURRENT_GRIDS = 2  # grids decoded at the same time: each may take MAX_GRID_BYTES
POINTS_PER_BATCH = 32  # points decoded at a time: between batches other work on whole images may run


@dataclass(frozen=True)
class GridKey:
    """Identifies a grid.

    embedding: of the image or region that the grid lies on.
    multimask: three candidates for each click, otherwise the single mask.
    """

    embedding: EmbeddingKey
    points_per_side: int
    multimask: bool


@dataclass
class PendingGrid:
    """A grid that is being decoded.

    waiters: the number of requests that wait for it.
    """

    task: asyncio.Task[AmgCandidates]
    waiters: int = 0


class AmgCandidateCache:
    """`AmgCandidateCache` returns the candidates of a grid and decodes them if it does not have them.

    Use it from one thread, the event loop's.

    executor: runs each batch of points, as work on a whole image.
    decode_threads: decode the points of a batch, one per thread.
    max_bytes: of the candidates kept in this process; the least recently used are evicted.
    """

    def __init__(
        self,
        images: ImageStore,
        embeddings: Embeddings,
        executor: BoundedExecutor,
        decode_threads: Executor,
        metrics: Metrics,
        max_bytes: int,
    ) -> None:
        self._images, self._embeddings, self._executor = images, embeddings, executor
        self._decode_threads, self._metrics = decode_threads, metrics
        self._entries: LRUCache[GridKey, AmgCandidates] = LRUCache(
            max_bytes, getsizeof=lambda candidates: candidates.nbytes
        )
        self._running: dict[tuple[GridKey, float], PendingGrid] = {}
        self._grid_slots = asyncio.Semaphore(MAX_CONCURRENT_GRIDS)

    async def get(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        grid: GridRegion,
        region: Region | None,
        offset: float,
        timings: Timings,
        *,
        multimask: bool = True,
    ) -> AmgCandidates:
        """Return the candidates of a grid. The caller must hold a slot of the executor.

        region: the grid's region in pixels of the image; None is the whole image.
        offset: the candidates are good for stability offsets up to this.
        multimask: three candidates for each click, otherwise the single mask.

        Raises TooLarge, and what `Embeddings.get_prepared` raises.
        """
        embedding = EmbeddingKey(tenant, image_id, model.embedding_digest, region)
        key = GridKey(embedding, grid.points_per_side, multimask)
        cached, depth = self._entries.get(key), max(offset, LOGIT_DEPTH)
        if cached is not None and cached.depth >= depth:
            self._metrics.whole_images.count_amg_grid("process")
            return cached
        pending = self._running.get((key, depth))
        if pending is None:
            # A task of its own: a client that disconnects must not cancel the work that others wait for.
            task = asyncio.create_task(self._decode_in_slot(key, model, grid, depth, timings))
            pending = self._running[key, depth] = PendingGrid(task)
        pending.waiters += 1
        try:
            return await asyncio.shield(pending.task)
        finally:
            pending.waiters -= 1
            if not pending.waiters:
                # Done, failed, or given up by the last waiter, in whose executor slot it ran.
                pending.task.cancel()
                if self._running.get((key, depth)) is pending:
                    del self._running[key, depth]

    async def _decode_in_slot(
        self, key: GridKey, model: PromptableModel, grid: GridRegion, depth: float, timings: Timings
    ) -> AmgCandidates:
        async with self._grid_slots:
            return await self._decode(key, model, grid, depth, timings)

    async def _decode(
        self, key: GridKey, model: PromptableModel, grid: GridRegion, depth: float, timings: Timings
    ) -> AmgCandidates:
        tenant, image_id, region = key.embedding.tenant, key.embedding.image_id, key.embedding.region
        priority = None if region is None else Priority.BATCH
        image = await self._embeddings.get_prepared(tenant, image_id, model, timings, priority, region)
        candidates = AmgCandidates(depth, [])
        for points in split_points(make_point_grid(grid)):
            candidates.add(
                await self._executor.run_in_slot(
                    decode_points, model, image, points, depth, self._decode_threads, timings, key.multimask
                )
            )
            if candidates.nbytes > MAX_GRID_BYTES:
                raise TooLarge(
                    f"The grid's masks take more than {MAX_GRID_BYTES >> 20} MB before they are filtered.",
                    field="params.points_per_side",
                    remedy="Take fewer points a side, or a smaller stability_score_offset.",
                )
        await self._images.get_record(tenant, image_id)  # raises if the image was deleted meanwhile
        self._metrics.whole_images.count_amg_grid("decoder")
        if candidates.nbytes <= self._entries.maxsize:
            self._entries[key] = candidates
        self._report_size()
        return candidates

    def forget(self, tenant: str, image_id: str) -> None:
        """Remove the candidates of an image."""
        for key in [
            k for k in self._entries if (k.embedding.tenant, k.embedding.image_id) == (tenant, image_id)
        ]:
            del self._entries[key]
        self._report_size()

    def images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which candidates are kept."""
        return {(key.embedding.tenant, key.embedding.image_id) for key in self._entries}

    def _report_size(self) -> None:
        self._metrics.caches.set_size("candidates", len(self._entries), int(self._entries.currsize))


def split_points(points: NDArray[np.float64]) -> Iterable[NDArray[np.float64]]:
    """Split points [N, 2] into batches of up to POINTS_PER_BATCH."""
    return (points[start : start + POINTS_PER_BATCH] for start in range(0, len(points), POINTS_PER_BATCH))
