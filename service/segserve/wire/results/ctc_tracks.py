"""The results of a tracking job in the format of the Cell Tracking Challenge (CTC)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import numpy as np

from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.tracking.ctc_format import CtcResult
from segserve.tracking.tracks import Track
from segserve.types import Size

Line = dict[str, Any]  # the objects of one frame
# Opens the published lines from the first on. They are read twice.
OpenFrames = Callable[[], AsyncIterator[Line]]


async def write_ctc(read: OpenFrames) -> AsyncGenerator[bytes]:
    """A zip, see `tracking.ctc_format`. A job that still runs has its tracks up to now.

    All lines are read twice, since the length of each track must be known before the first mask is written.

    Raises TooLarge, before the first byte.
    """
    tracks, count = await read_tracks(read())
    async for part in CtcResult(tracks, count).write_zip(read_label_maps(read(), count)):
        yield part


async def read_tracks(lines: AsyncIterator[Line]) -> tuple[list[Track], int]:
    """The tracks, and the number of frames."""
    frames: dict[int, list[int]] = {}
    parents: dict[int, int | None] = {}
    count = 0
    async for line in lines:
        for item in line["objects"]:
            frames.setdefault(item["object_id"], []).append(line["frame"])
            parents[item["object_id"]] = item["parent"]
        count += 1
    return [Track(track, np.array(frames[track]), parents[track]) for track in sorted(frames)], count


async def read_label_maps(lines: AsyncIterator[Line], count: int) -> AsyncIterator[Labels]:
    """Label maps [H, W] of track ids, for the first `count` frames. Later frames were published since."""
    async for line in lines:
        if line["frame"] >= count:
            return
        yield await asyncio.to_thread(draw_label_map, line)


def draw_label_map(line: Line) -> Labels:
    """The label map of a frame [H, W]; its values are track ids."""
    runs = [(item["object_id"], item["mask"]["counts"], item["area"]) for item in line["objects"]]
    return label_map.from_rle(runs, Size(line["height"], line["width"]), np.uint32)
