"""Tracks as the Cell Tracking Challenge has them (celltrackingchallenge.net, "Naming and file content conventions"):
maskTTT.tif, 16-bit labels of each frame, and res_track.txt with a line `L B E P` for each track: its label, its first
and last frame, from 0, and its parent's label or 0.

A track there is on every frame from its first to its last. One that was missed in between goes on as another, whose
only parent it is: that is no division, which has two children.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from zipstream import ZIP_STORED, ZipStream

from segserve.errors import TooLarge
from segserve.masks.label_map import MAX_UINT16_ID, Labels, encode_tiff
from segserve.tracking.link_tracks import Track
from segserve.types import Int64, UInt16

TRACKS_FILE = "res_track.txt"
MIN_DIGITS = 3


@dataclass(frozen=True)
class CtcTrack:
    """A line of res_track.txt."""

    label: int
    begin: int
    end: int
    parent: int


class CtcResult:
    """tracks: with ids from 1 without gaps, in order. count: frames."""

    def __init__(self, tracks: Sequence[Track], count: int) -> None:
        """Raises TooLarge where 16 bits do not hold all labels."""
        self._digits = max(MIN_DIGITS, len(str(count - 1)))
        self._resumed: dict[int, list[CtcTrack]] = {}  # of tracks that were missed in between, by their ids
        self._pieces = self._cut(tracks)
        if len(self._pieces) > MAX_UINT16_ID:
            raise TooLarge(
                f"There are {len(self._pieces)} tracks, and the Cell Tracking Challenge's 16 bits hold"
                f" {MAX_UINT16_ID}.",
                field="format",
                remedy="Ask for format 'ndjson', or leave small objects out.",
            )

    def _cut(self, tracks: Sequence[Track]) -> list[CtcTrack]:
        last = {track.track_id: track.track_id for track in tracks}  # the label that a track ends with
        found, free = [], len(tracks) + 1
        for track in tracks:
            first, *later = split_at_gaps(track)
            parent = 0 if track.parent is None else last[track.parent]
            pieces = [CtcTrack(track.track_id, int(first[0]), int(first[-1]), parent)]
            for frames in later:
                pieces.append(CtcTrack(free, int(frames[0]), int(frames[-1]), pieces[-1].label))
                free += 1
            if later:
                self._resumed[track.track_id] = pieces
                last[track.track_id] = pieces[-1].label
            found += pieces
        return sorted(found, key=lambda piece: piece.label)

    def format_tracks(self) -> bytes:
        """res_track.txt."""
        lines = (f"{each.label} {each.begin} {each.end} {each.parent}\n" for each in self._pieces)
        return "".join(lines).encode("ascii")

    def mask_name(self, frame: int) -> str:
        return f"mask{frame:0{self._digits}}.tif"

    def relabel(self, frame: int, track_ids: Labels) -> UInt16:
        """A map [H, W] of track ids to one of labels."""
        table: NDArray[np.uint16] = np.arange(int(track_ids.max(initial=0)) + 1, dtype=np.uint16)
        for track_id, pieces in self._resumed.items():
            if track_id < len(table):
                table[track_id] = next((each.label for each in pieces if each.begin <= frame <= each.end), 0)
        return table[track_ids]

    async def write_zip(self, maps: AsyncIterator[Labels]) -> AsyncIterator[bytes]:
        """A zip, as it is made, with one frame in memory. maps: [H, W] of track ids, frame after frame."""
        archive = ZipStream(compress_type=ZIP_STORED)
        frame = 0
        async for track_ids in maps:
            content = await asyncio.to_thread(
                lambda at, ids: encode_tiff(self.relabel(at, ids)), frame, track_ids
            )
            archive.add(content, self.mask_name(frame))
            for part in archive.all_files():
                yield part
            frame += 1
        archive.add(self.format_tracks(), TRACKS_FILE)
        for part in archive.finalize():
            yield part


def split_at_gaps(track: Track) -> list[Int64]:
    """Its frames, cut where some are missing."""
    if track.end - track.begin + 1 == len(track.frames):
        return [track.frames]  # nearly all: cutting takes a while where there are thousands
    return np.split(track.frames, np.flatnonzero(np.diff(track.frames) > 1) + 1)
