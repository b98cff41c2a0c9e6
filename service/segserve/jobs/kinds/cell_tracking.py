"""Jobs that track cells: the objects of every frame, linked to tracks through the video (`tracking.link_tracks`)."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from segserve.jobs.engine.job import Job
from segserve.jobs.kinds.job_requests import TrackingRequest
from segserve.jobs.kinds.segment_then_join import JoinedSlices, OpenSlices, SegmentSlice, SegmentThenJoinJob
from segserve.jobs.kinds.slice_labels import ChunkStates, SegmentedSlices
from segserve.masks.label_map import Labels
from segserve.tracking.detections import Detections
from segserve.tracking.laptrack_reference import load_laptrack
from segserve.tracking.link_tracks import link_tracks


class TrackingRunner:
    """`TrackingRunner` finds and tracks all objects of a video. max_concurrent: frames segmented at the same time."""

    def __init__(self, open_slices: OpenSlices, segment: SegmentSlice, max_concurrent: int) -> None:
        self._open, self._segment, self._max_concurrent = open_slices, segment, max_concurrent

    async def open(self, job: Job, request: bytes, past: ChunkStates) -> SegmentThenJoinJob:
        params = TrackingRequest.model_validate_json(request)
        if params.joining.raw:
            # Loaded first, so that a missing library is reported before hours of segmentation.
            await asyncio.to_thread(load_laptrack)
        slices = await self._open(job, params)

        async def join(segmented: SegmentedSlices) -> JoinedSlices:
            detections = [
                frame
                for piece in range(segmented.piece_count)
                for frame in await segmented.read_detections(piece)
            ]
            tracks = await asyncio.to_thread(link_tracks, detections, params.joining)

            async def read_label_maps(piece: int) -> list[Labels]:
                maps = await segmented.read_label_maps(piece)
                return [
                    relabel(labels, detections[index], tracks.track_ids[index])
                    for index, labels in zip(segmented.indices(piece), maps, strict=True)
                ]

            return JoinedSlices(read_label_maps, {track.track_id: track.parent for track in tracks.tracks})

        return SegmentThenJoinJob(
            job, params, "frame", slices, self._segment, self._max_concurrent, past, join
        )


def relabel(labels: Labels, detections: Detections, track_ids: NDArray[np.int64]) -> Labels:
    """Return a label map [H, W] with the id of every detection replaced by its track id.

    track_ids: [n], in the order of `detections`.
    """
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    table[detections.ids] = track_ids
    return table[labels]
