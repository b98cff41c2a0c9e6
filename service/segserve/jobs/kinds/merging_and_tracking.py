"""Automatic segmentation of single slices or frames, joined to objects of a volume or tracks through a video.

    slices -> segmented, chunk by chunk -> joined, all at once -> lines of results, chunk by chunk

The first half of a job's chunks has no lines: what was segmented is their state. The other half reads it again, with
the ids that things have as a whole. These follow from the states alone, so a worker that begins anywhere in the
second half comes to the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from segserve.automatic.merge_slices import merge_slices
from segserve.cancellation import cancel_and_wait
from segserve.errors import TooLarge
from segserve.jobs.engine.chunked_work import Chunk, Opened, Stop, Work
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.result_store import Past
from segserve.jobs.kinds.job_requests import AutomaticRequest, MergeRequest, TrackRequest
from segserve.jobs.kinds.result_lines import described
from segserve.jobs.kinds.slice_labels import Segmented, States, pack
from segserve.jobs.kinds.wait_for_room import patiently
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.tracking.detections import Detections
from segserve.tracking.link_tracks import link, load_laptrack
from segserve.types import Size, UInt8

MILLION = 1_000_000


class Slices(Protocol):
    """A file as slices of one size."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> Size: ...

    def name(self, index: int) -> str:
        """The same for the same pixels."""
        ...

    async def read(self, index: int) -> UInt8:
        """RGB [H, W, 3]. Raises BadInput where it is damaged."""
        ...

    async def close(self) -> None: ...


# Raises FileNotFound, BadInput, MissingDependency.
OpenSlices = Callable[[Job, AutomaticRequest], Awaitable[Slices]]
# (job, a slice's name, its pixels, how) -> its label map [H, W], the same for the same. Raises errors of the tree.
Segment = Callable[[Job, str, UInt8, AutomaticRequest], Awaitable[Labels]]


class Merging:
    """Objects of volumes. most_voxels: of one, for all of its labels are held at once. at_once: slices segmented
    together."""

    def __init__(self, open_slices: OpenSlices, segment: Segment, at_once: int, most_voxels: int) -> None:
        self._open, self._segment, self._at_once = open_slices, segment, at_once
        self._most_voxels = most_voxels

    async def open(self, job: Job, request: bytes, past: States) -> "OpenedStitched":
        asked = MergeRequest.model_validate_json(request)
        slices = await self._open(job, asked)
        voxels = slices.count * slices.size.height * slices.size.width
        if voxels > self._most_voxels:
            await slices.close()
            raise TooLarge(
                f"The volume has {voxels / MILLION:.0f} megavoxels; up to {self._most_voxels // MILLION} are joined.",
                field="input.file_id",
                remedy="Send a smaller volume, or a part of it.",
            )

        async def joined(segmented: Segmented) -> Joined:
            volume = np.empty((slices.count, slices.size.height, slices.size.width), np.uint32)
            for piece in range(segmented.count):
                for index, each in zip(segmented.indices(piece), await segmented.maps(piece), strict=True):
                    volume[index] = each
            await asyncio.to_thread(merge_slices, volume, asked.joining)

            async def maps(piece: int) -> list[Labels]:
                return [volume[index] for index in segmented.indices(piece)]

            return Joined(maps)

        return OpenedStitched(job, asked, "slice", slices, self._segment, self._at_once, past, joined)


class Tracking:
    """Tracks through videos. at_once: frames segmented together."""

    def __init__(self, open_slices: OpenSlices, segment: Segment, at_once: int) -> None:
        self._open, self._segment, self._at_once = open_slices, segment, at_once

    async def open(self, job: Job, request: bytes, past: States) -> "OpenedStitched":
        asked = TrackRequest.model_validate_json(request)
        await asyncio.to_thread(load_laptrack)  # before hours of work, should it be missing
        slices = await self._open(job, asked)

        async def joined(segmented: Segmented) -> Joined:
            found = [each for piece in range(segmented.count) for each in await segmented.detections(piece)]
            tracks = await asyncio.to_thread(link, found, asked.joining)

            async def maps(piece: int) -> list[Labels]:
                return [
                    painted(each, found[index], tracks.of[index])
                    for index, each in zip(segmented.indices(piece), await segmented.maps(piece), strict=True)
                ]

            return Joined(maps, {track.track_id: track.parent for track in tracks.all})

        return OpenedStitched(job, asked, "frame", slices, self._segment, self._at_once, past, joined)


@dataclass(frozen=True)
class Joined:
    """maps: of a piece's slices, with ids of the whole. parents: of every id, where things divide."""

    maps: Callable[[int], Awaitable[list[Labels]]]
    parents: Mapping[int, int | None] | None = None


class OpenedStitched:
    """word: what one of its slices is called. join: makes one of what was segmented."""

    def __init__(
        self,
        job: Job,
        asked: AutomaticRequest,
        word: str,
        slices: Slices,
        segment: Segment,
        at_once: int,
        past: States,
        join: Callable[[Segmented], Awaitable[Joined]],
    ) -> None:
        self._job, self._asked, self._word, self._slices = job, asked, word, slices
        self._segment, self._join = segment, join
        self._places = asyncio.Semaphore(at_once)
        self._segmented = Segmented(past, slices.count)
        self._joined: Joined | None = None
        self.total = 2 * slices.count

    async def chunk(self, number: int, stop: Stop) -> Chunk | None:
        half, piece = divmod(number, self._segmented.count)
        match half:
            case 0:
                return await self._made(piece, stop)
            case 1:
                return await self._told(piece, stop)
            case _:
                return None

    async def _made(self, piece: int, stop: Stop) -> Chunk:
        tasks = [asyncio.create_task(self._one(index, stop)) for index in self._segmented.indices(piece)]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(tasks)
        return Chunk([], units=len(found), state=await asyncio.to_thread(pack, found))

    async def _one(self, index: int, stop: Stop) -> Labels:
        async with self._places:
            pixels = await self._slices.read(index)
            name = self._slices.name(index)
            return await patiently(lambda: self._segment(self._job, name, pixels, self._asked), stop)

    async def _told(self, piece: int, stop: Stop) -> Chunk:
        if self._joined is None:
            self._joined = await self._join(self._segmented)
            stop.check()
        maps, parents = await self._joined.maps(piece), self._joined.parents
        lines = [
            await asyncio.to_thread(line, self._word, index, each, parents)
            for index, each in zip(self._segmented.indices(piece), maps, strict=True)
        ]
        return Chunk(lines, units=len(lines))

    async def close(self) -> None:
        await self._slices.close()


def line(word: str, index: int, found: Labels, parents: Mapping[int, int | None] | None) -> bytes:
    """The objects of a slice, by their ids in its map."""
    height, width = found.shape
    objects = []
    for object_id, mask in zip(present(found), label_map.to_crops(found), strict=True):
        told = {
            "object_id": object_id,
            **described(mask),
            "score": None,
        }
        objects.append(told if parents is None else {**told, "parent": parents[object_id]})
    return orjson.dumps({word: index, "width": width, "height": height, "objects": objects})


def present(found: Labels) -> list[int]:
    """Its ids, ascending."""
    ids: list[int] = np.unique(found[found > 0]).tolist()
    return ids


def painted(found: Labels, detections: Detections, ids: NDArray[np.int64]) -> Labels:
    """A map with other ids for those that its detections have."""
    table = np.zeros(int(found.max(initial=0)) + 1, np.uint32)
    table[detections.ids] = ids
    return table[found]


class EitherWay:
    """Volumes: objects that are asked for are followed, and all of them joined where none is."""

    def __init__(self, following: Work, merging: Work) -> None:
        self._following, self._merging = following, merging

    async def open(self, job: Job, request: bytes, past: Past) -> Opened:
        automatic = orjson.loads(request)["engine"] == "automatic"
        return await (self._merging if automatic else self._following).open(job, request, past)
