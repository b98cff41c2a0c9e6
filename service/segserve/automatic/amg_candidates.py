"""What the decoder answers for a grid of points: candidates, of which the filters choose.

They are kept as low-res logits, cut to where they can matter and in fp16, so that every threshold can be changed
without running the decoder again. Candidates of a deleted image are forgotten everywhere.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from segserve.automatic.point_grids import Part, grid
from segserve.bounded_executor import BoundedExecutor
from segserve.decode.prompt_encoding import CANDIDATES, SINGLE, encode_tokens
from segserve.encode.embeddings import Embeddings
from segserve.encode.prepared_cache import EmbeddingKey, PreparedImage
from segserve.errors import TooLarge
from segserve.masks.upscale import Extent
from segserve.metrics import Metrics
from segserve.models.bundle import PromptableManifest
from segserve.models.promptable_model import Model
from segserve.store.image_store import ImageStore
from segserve.timing import Timings
from segserve.types import Float16, Float32, Priority, Prompt, Region

REACH = 4.0  # how far below the mask's threshold logits are kept: offsets up to it need no decoder
MARGIN = 2  # low-res pixels around them: what an upscaled pixel sees lies within
KEPT_AS = np.float16
MOST_BYTES = 1 << 30  # of one grid's candidates
GRIDS_AT_ONCE = 2  # grow: each may take MOST_BYTES
PIECE = 32  # points decoded at a time; other work on whole images gets its turn in between


@dataclass(frozen=True)
class Patch:
    """Low-res logits [h, w], less the mask's threshold, their top left corner at (x, y); elsewhere they are below
    the reach. fp16 is finest near 0, where it decides about pixels."""

    logits: Float16
    x: int
    y: int


@dataclass(frozen=True)
class Candidate:
    """point: (x, y) in pixels of what was encoded. score: predicted IoU."""

    point: tuple[float, float]
    score: float
    patch: Patch


class Candidates:
    """Of one grid, in the order of its points. reach: how far below the mask's threshold logits are kept."""

    def __init__(self, reach: float, found: list[Candidate]) -> None:
        self.reach, self.found = reach, found
        self.nbytes = sum(size_of(each) for each in found)
        self._measured: tuple[float, dict[int, Extent]] = (0.0, {})

    def add(self, found: list[Candidate]) -> None:
        self.found += found
        self.nbytes += sum(size_of(each) for each in found)

    def logits(self, index: int, low: int) -> Float32:
        """[low, low], less the mask's threshold, whole again: by how much the rest is below the reach is forgotten."""
        patch = self.found[index].patch
        logits = np.full((low, low), -self.reach - 1, np.float32)
        height, width = patch.logits.shape
        logits[patch.y : patch.y + height, patch.x : patch.x + width] = patch.logits
        return logits

    def extents_at(self, offset: float) -> dict[int, Extent]:
        """What was measured of them with this stability offset, by position, to be added to. Another offset's
        is forgotten."""
        measured_at, extents = self._measured
        if measured_at != offset:
            extents = {}
            self._measured = (offset, extents)
        return extents


def size_of(candidate: Candidate) -> int:
    """Roughly: besides its logits it takes a kilobyte, with its extent."""
    return 1024 + candidate.patch.logits.nbytes


def cut(logits: Float32, reach: float) -> Patch:
    """The part of low-res logits [h, w], less the mask's threshold, that decides about pixels above -reach."""
    above = logits > -reach
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not rows.size:
        return Patch(np.zeros((0, 0), KEPT_AS), 0, 0)
    top, left = max(0, int(rows[0]) - MARGIN), max(0, int(columns[0]) - MARGIN)
    part = logits[top : int(rows[-1]) + 1 + MARGIN, left : int(columns[-1]) + 1 + MARGIN]
    return Patch(part.astype(KEPT_AS), left, top)


def mask_channels(manifest: PromptableManifest) -> list[int]:
    """The mask tokens of different extent, or the single mask of a decoder that has no others."""
    return [token for token in CANDIDATES if token in manifest.dims.masks] or [SINGLE]


def decode_point(model: Model, image: PreparedImage, x: float, y: float, reach: float) -> list[Candidate]:
    """One click on the prepared image, start to end, in the calling thread."""
    click = Prompt(points=np.array([[x, y]], np.float32), labels=np.ones(1, np.int64))
    channels = mask_channels(model.manifest)
    logits, scores = model.decode(image.prepared, *encode_tokens(click, model.manifest, image.size), channels)
    logits = logits - np.float32(model.manifest.mask_threshold)
    return [
        Candidate((x, y), float(score), cut(each, reach))
        for each, score in zip(logits, scores[channels], strict=True)
    ]


def decode_points(
    model: Model,
    image: PreparedImage,
    points: NDArray[np.float64],
    reach: float,
    workers: Executor,
    timings: Timings,
) -> list[Candidate]:
    """points [N, 2] in pixels of the prepared image. Side by side in the workers: a click does not profit from
    being decoded with others, nor from a second thread as much as two clicks do from one each."""
    with timings.stage("decode"):
        side_by_side = model.side_by_side
        answers = workers.map(
            lambda at: decode_point(side_by_side, image, at[0], at[1], reach), points.tolist()
        )
        return [candidate for answer in answers for candidate in answer]


@dataclass(frozen=True)
class GridKey:
    """embedding: of what was decoded on."""

    embedding: EmbeddingKey
    points_per_side: int


@dataclass
class Making:
    """Candidates that are being made. waiters: who wants them."""

    task: asyncio.Task[Candidates]
    waiters: int = 0


class Grids:
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
        self._held: LRUCache[GridKey, Candidates] = LRUCache(max_bytes, getsizeof=lambda found: found.nbytes)
        self._running: dict[tuple[GridKey, float], Making] = {}
        self._growing = asyncio.Semaphore(GRIDS_AT_ONCE)

    async def get(
        self,
        tenant: str,
        image_id: str,
        model: Model,
        part: Part,
        region: Region | None,
        offset: float,
        timings: Timings,
    ) -> Candidates:
        """Those of a part, which is all of the image or a region of it, fit for stability offsets up to `offset`.
        The caller has a place in the turns. Raises as `Embeddings.prepared` does."""
        key = GridKey(EmbeddingKey(tenant, image_id, model.bundle.digest, region), part.points_per_side)
        held, reach = self._held.get(key), max(offset, REACH)
        if held is not None and held.reach >= reach:
            self._metrics.grids("process")
            return held
        making = self._running.get((key, reach))
        if making is None:
            # A task of its own: a client that hangs up does not take the candidates away from the others.
            task = asyncio.create_task(self._make(key, model, part, reach, timings))
            making = self._running[key, reach] = Making(task)
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
        self, key: GridKey, model: Model, part: Part, reach: float, timings: Timings
    ) -> Candidates:
        async with self._growing:
            return await self._decode(key, model, part, reach, timings)

    async def _decode(
        self, key: GridKey, model: Model, part: Part, reach: float, timings: Timings
    ) -> Candidates:
        at = key.embedding
        priority = None if at.region is None else Priority.BATCH
        image = await self._embeddings.prepared(at.tenant, at.image_id, model, timings, priority, at.region)
        candidates = Candidates(reach, [])
        for points in pieces(grid(part)):
            candidates.add(
                await self._turns.piece(decode_points, model, image, points, reach, self._workers, timings)
            )
            if candidates.nbytes > MOST_BYTES:
                raise TooLarge(
                    f"The grid's masks take more than {MOST_BYTES >> 20} MB before they are filtered.",
                    field="params.points_per_side",
                    remedy="Take fewer points a side, or a smaller stability_score_offset.",
                )
        await self._images.record(at.tenant, at.image_id)  # deleted meanwhile? Then nothing of it may be kept
        self._metrics.grids("decoder")
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
        self._metrics.held("candidates", len(self._held), int(self._held.currsize))


def pieces(points: NDArray[np.float64]) -> Iterable[NDArray[np.float64]]:
    return (points[start : start + PIECE] for start in range(0, len(points), PIECE))
