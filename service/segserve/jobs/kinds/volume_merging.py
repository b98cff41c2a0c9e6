"""Jobs on volumes: all objects, segmented slice by slice and merged across slices (`automatic.merge_slices`)."""

import asyncio

import numpy as np
import orjson
from numpy.typing import NDArray

from segserve.automatic.false_objects import ObjectTotals, build_removal_table, find_false_objects
from segserve.automatic.merge_slices import VolumeParams, merge_slices
from segserve.errors import TooLarge
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_kind_runner import JobKindRunner, OpenJob
from segserve.jobs.engine.result_store import PublishedResults
from segserve.jobs.kinds.job_requests import VolumeMergeRequest
from segserve.jobs.kinds.segment_then_join import JoinedSlices, OpenSlices, SegmentSlice, SegmentThenJoinJob
from segserve.jobs.kinds.slice_labels import ChunkStates, SegmentedSlices
from segserve.masks.label_map import Labels

MEGAVOXEL = 1_000_000


class VolumeMergeRunner:
    """`VolumeMergeRunner` finds all objects of a volume.

    max_concurrent: slices segmented at the same time.
    max_voxels: the largest volume, because all of its labels are in memory at once.
    """

    def __init__(
        self, open_slices: OpenSlices, segment: SegmentSlice, max_concurrent: int, max_voxels: int
    ) -> None:
        self._open, self._segment, self._max_concurrent = open_slices, segment, max_concurrent
        self._max_voxels = max_voxels

    async def open(self, job: Job, request: bytes, past: ChunkStates) -> SegmentThenJoinJob:
        params = VolumeMergeRequest.model_validate_json(request)
        slices = await self._open(job, params)
        voxels = slices.count * slices.size.height * slices.size.width
        if voxels > self._max_voxels:
            await slices.close()
            limit = self._max_voxels // MEGAVOXEL
            raise TooLarge(
                f"The volume has {voxels / MEGAVOXEL:.0f} megavoxels; up to {limit} are joined.",
                field="input.file_id",
                remedy="Send a smaller volume, or a part of it.",
            )

        async def join(segmented: SegmentedSlices) -> JoinedSlices:
            volume = np.empty((slices.count, slices.size.height, slices.size.width), np.uint32)
            for piece in range(segmented.piece_count):
                maps = await segmented.read_label_maps(piece)
                for index, labels in zip(segmented.indices(piece), maps, strict=True):
                    volume[index] = labels
            await asyncio.to_thread(merge_slices, volume, params.joining)
            if params.joining.min_size_share or params.joining.min_contrast:
                await remove_false_objects(volume, segmented, params.joining)

            async def read_label_maps(piece: int) -> list[Labels]:
                return [volume[index] for index in segmented.indices(piece)]

            return JoinedSlices(read_label_maps)

        return SegmentThenJoinJob(
            job, params, "slice", slices, self._segment, self._max_concurrent, past, join
        )


async def remove_false_objects(
    volume: NDArray[np.uint32], segmented: SegmentedSlices, params: VolumeParams
) -> None:
    """Remove what is no object from the label map of a volume [Z, H, W], in place."""
    totals = ObjectTotals(int(volume.max(initial=0)))
    for piece in range(segmented.piece_count):
        maps, detections = await segmented.read_label_maps(piece), await segmented.read_detections(piece)
        for index, labels, measured in zip(segmented.indices(piece), maps, detections, strict=True):
            await asyncio.to_thread(totals.add_slice, volume[index], labels, measured.contrasts)
    is_false = find_false_objects(totals, params.min_size_share, params.min_contrast)
    table = build_removal_table(is_false)
    for labels in volume:
        labels[:] = table[labels]


class VolumeRunner:
    """`VolumeRunner` runs both kinds of volume jobs: it propagates the requested objects, or finds and merges all
    objects if the request names none."""

    def __init__(self, propagation: JobKindRunner, merging: JobKindRunner) -> None:
        self._propagation, self._merging = propagation, merging

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> OpenJob:
        is_automatic = orjson.loads(request)["engine"] == "automatic"
        return await (self._merging if is_automatic else self._propagation).open(job, request, past)
