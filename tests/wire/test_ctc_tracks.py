"""Lines of a tracking job in the format of the Cell Tracking Challenge."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import orjson
import tifffile

from segserve.jobs.kinds.segment_then_join import encode_line
from segserve.wire.results.ctc_tracks import write_ctc
from tests.tracking.drawn import CELLS, draw_tracks

PARENTS = {track_id: mother for track_id, (_, _, mother, _) in CELLS.items()}


def lines(count: int) -> list[dict[str, Any]]:
    return [
        orjson.loads(encode_line("frame", index, item, PARENTS))
        for index, item in enumerate(draw_tracks()[:count])
    ]


def read_archive(count: int, published_since: int = 0) -> dict[str, bytes]:
    """The files made of the first frames; more: of those published while they are read."""
    published = [lines(count), lines(count + published_since)]

    async def read() -> AsyncIterator[dict[str, Any]]:
        for item in published.pop(0):
            yield item

    async def gathered() -> bytes:
        return b"".join([part async for part in write_ctc(read)])

    with zipfile.ZipFile(io.BytesIO(asyncio.run(gathered()))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rows(files: dict[str, bytes]) -> list[list[int]]:
    return [[int(value) for value in row.split()] for row in files["res_track.txt"].decode().splitlines()]


def test_masks_and_tracks_are_those_of_the_lines() -> None:
    files = read_archive(len(draw_tracks()))
    assert rows(files) == [
        [track_id, begin, end, mother or 0] for track_id, (begin, end, mother, _) in CELLS.items()
    ]
    stored = [
        tifffile.imread(io.BytesIO(files[f"mask{frame:03}.tif"])) for frame in range(len(draw_tracks()))
    ]
    assert np.array_equal(stored, draw_tracks())


def test_a_running_job_has_its_tracks_so_far() -> None:
    files = read_archive(6, published_since=4)
    assert len(files) == 7
    assert rows(files) == [[1, 0, 5, 0], [2, 0, 3, 0], [3, 0, 5, 0], [4, 4, 5, 2], [5, 4, 5, 2], [6, 5, 5, 0]]


def test_before_its_first_line_there_are_no_tracks() -> None:
    assert read_archive(0) == {"res_track.txt": b""}
