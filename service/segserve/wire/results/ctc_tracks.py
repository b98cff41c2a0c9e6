"""The results of a tracking job in the form of the Cell Tracking Challenge, made of its lines as they are read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import numpy as np

from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.tracking.ctc_format import CtcResult
from segserve.tracking.link_tracks import Track
from segserve.types import Size

Line = dict[str, Any]
# Begins to read the published lines from the first on.
ReadLines = Callable[[], AsyncIterator[Line]]


async def write_ctc(read: ReadLines) -> AsyncGenerator[bytes]:
    """A zip, see `tracking.ctc_format`; of a job that still runs, its tracks so far. Reads all lines twice, for how
    long tracks last must be known before the first mask is written. Raises TooLarge, before the first byte."""
    tracks, count = await seen(read())
    async for part in CtcResult(tracks, count).write_zip(maps(read(), count)):
        yield part


async def seen(lines: AsyncIterator[Line]) -> tuple[list[Track], int]:
    """The tracks, and on how many frames."""
    frames: dict[int, list[int]] = {}
    parents: dict[int, int | None] = {}
    count = 0
    async for line in lines:
        for each in line["objects"]:
            frames.setdefault(each["object_id"], []).append(line["frame"])
            parents[each["object_id"]] = each["parent"]
        count += 1
    return [Track(each, np.array(frames[each]), parents[each]) for each in sorted(frames)], count


async def maps(lines: AsyncIterator[Line], count: int) -> AsyncIterator[Labels]:
    """[H, W] of track ids, of the first `count` frames: what comes after them was published since."""
    async for line in lines:
        if line["frame"] >= count:
            return
        yield await asyncio.to_thread(painted, line)


def painted(line: Line) -> Labels:
    found = [(each["object_id"], each["mask"]["counts"], each["area"]) for each in line["objects"]]
    return label_map.from_rle(found, Size(line["height"], line["width"]), np.uint32)
