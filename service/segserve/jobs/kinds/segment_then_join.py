"""Jobs that segment every slice or frame alone, and then join what was found across them.

    slices -> segmented, chunk by chunk -> joined, all at once -> result lines, chunk by chunk

The first half of the chunks has no lines: their states hold the label maps. The second half reads these states again
and writes the lines, with the ids of the joined objects. The ids follow from the states alone, so any worker that
begins in the second half comes to the same lines.

The two kinds are volume merging (`volume_merging.py`) and cell tracking (`cell_tracking.py`); they differ in `join`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson

from segserve.cancellation import cancel_and_wait
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.retry_policy import retry_while_busy
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import AutomaticJobRequest
from segserve.jobs.kinds.result_lines import mask_to_json
from segserve.jobs.kinds.slice_labels import ChunkStates, LabelledSlice, SegmentedSlices, pack_slices
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.types import Size, UInt8


class SliceSource(Protocol):
    """`SliceSource` is a file read as slices or frames of one size."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> Size: ...

    def slice_id(self, index: int) -> str:
        """Return a name for the slice's pixels: equal for equal pixels."""
        ...

    async def read(self, index: int) -> UInt8:
        """Return the slice as RGB [H, W, 3]. Raises BadInput if the file is damaged."""
        ...

    async def close(self) -> None: ...


# Opens the file of a request. Raises FileNotFound, BadInput, MissingDependency.
OpenSlices = Callable[[Job, AutomaticJobRequest], Awaitable[SliceSource]]
# (job, name of a slice, its RGB pixels, request) -> its objects; equal for equal input. Raises SegserveError.
SegmentSlice = Callable[[Job, str, UInt8, AutomaticJobRequest], Awaitable[LabelledSlice]]


@dataclass(frozen=True)
class JoinedSlices:
    """The slices with the ids of the joined objects.

    read_label_maps: returns the label maps [H, W] of one piece, one for each of its slices.
    parents: for every object id, the id of the object that divided into it, or None; None: objects do not divide.
    """

    read_label_maps: Callable[[int], Awaitable[list[Labels]]]
    parents: Mapping[int, int | None] | None = None


JoinSlices = Callable[[SegmentedSlices], Awaitable[JoinedSlices]]


class SegmentThenJoinJob:
    """`SegmentThenJoinJob` runs one such job.

    index_key: the name of the slice number in result lines, "slice" or "frame".
    max_concurrent: slices segmented at the same time.
    past: the states of the published chunks.
    join: joins the segmented slices.
    """

    def __init__(
        self,
        job: Job,
        request: AutomaticJobRequest,
        index_key: str,
        slices: SliceSource,
        segment: SegmentSlice,
        max_concurrent: int,
        past: ChunkStates,
        join: JoinSlices,
    ) -> None:
        self._job, self._request, self._index_key, self._slices = job, request, index_key, slices
        self._segment, self._join = segment, join
        self._semaphore = asyncio.Semaphore(max_concurrent)
        self._segmented = SegmentedSlices(past, slices.count)
        self._joined: JoinedSlices | None = None
        self.total = 2 * slices.count

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        half, piece = divmod(number, self._segmented.piece_count)
        match half:
            case 0:
                return await self._segment_piece(piece, stop)
            case 1:
                return await self._write_piece(piece, stop)
            case _:
                return None

    async def _segment_piece(self, piece: int, stop: StopSignal) -> Chunk:
        tasks = [
            asyncio.create_task(self._segment_slice(index, stop)) for index in self._segmented.indices(piece)
        ]
        try:
            slices = await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(tasks)
        return Chunk([], units=len(slices), state=await asyncio.to_thread(pack_slices, slices))

    async def _segment_slice(self, index: int, stop: StopSignal) -> LabelledSlice:
        async with self._semaphore:
            pixels = await self._slices.read(index)
            name = self._slices.slice_id(index)
            return await retry_while_busy(lambda: self._segment(self._job, name, pixels, self._request), stop)

    async def _write_piece(self, piece: int, stop: StopSignal) -> Chunk:
        if self._joined is None:
            self._joined = await self._join(self._segmented)
            stop.raise_if_set()
        maps, parents = await self._joined.read_label_maps(piece), self._joined.parents
        lines = [
            await asyncio.to_thread(encode_line, self._index_key, index, labels, parents, self._request.scale)
            for index, labels in zip(self._segmented.indices(piece), maps, strict=True)
        ]
        return Chunk(lines, units=len(lines))

    async def close(self) -> None:
        await self._slices.close()


def encode_line(
    index_key: str,
    index: int,
    labels: Labels,
    parents: Mapping[int, int | None] | None,
    scale: float | None = None,
) -> bytes:
    """Return the result line of one slice: its objects, by their ids in the label map [H, W]; and its scale, if any."""
    height, width = labels.shape
    objects = []
    for object_id, mask in zip(list_object_ids(labels), label_map.to_crops(labels), strict=True):
        item = {"object_id": object_id, **mask_to_json(mask), "score": None}
        objects.append(item if parents is None else {**item, "parent": parents[object_id]})
    seen_at = {} if scale is None else {"scale": scale}
    return orjson.dumps({index_key: index, "width": width, "height": height, **seen_at, "objects": objects})


def list_object_ids(labels: Labels) -> list[int]:
    """Return the ids in a label map, ascending, without the background."""
    ids: list[int] = np.unique(labels[labels > 0]).tolist()
    return ids
