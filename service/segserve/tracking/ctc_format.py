"""The result format of the Cell Tracking Challenge (CTC; celltrackingchallenge.net, "Naming and file content
conventions").

It has maskTTT.tif, the 16-bit labels of each frame, and res_track.txt with a line `L B E P` for each track: its label,
its first and last frame (from 0), and its parent's label or 0.

A CTC track is on every frame from its first to its last. A track that was missed in between is cut at the gap and goes
on as another CTC track, with the first as its parent. Such a parent has one child; a division has two.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from zipstream import ZIP_STORED, ZipStream

from segserve.errors import TooLarge
from segserve.masks.label_map import MAX_UINT16_ID, Labels, encode_tiff
from segserve.tracking.tracks import Track
from segserve.types import Int64, UInt16

TRACKS_FILE = "res_track.txt"

# Digits of the frame number in mask names, as the conventions have it; more where there are more frames.
MIN_DIGITS = 3


@dataclass(frozen=True)
class CtcTrack:
    """A line of res_track.txt."""

    label: int
    begin: int
    end: int
    parent: int


class CtcResult:
    """`CtcResult` writes tracks in the CTC format.

    tracks: in the order of their ids, which are 1, 2, 3, ...
    count: number of frames.

    Raises TooLarge if 16 bits do not hold all labels.
    """

    def __init__(self, tracks: Sequence[Track], count: int) -> None:
        self._digits = max(MIN_DIGITS, len(str(count - 1)))
        self._with_gaps: dict[int, list[CtcTrack]] = {}  # the parts of tracks with gaps, by track id
        self._ctc_tracks = self._cut_at_gaps(tracks)
        if len(self._ctc_tracks) > MAX_UINT16_ID:
            raise TooLarge(
                f"There are {len(self._ctc_tracks)} tracks, and the Cell Tracking Challenge's 16 bits hold"
                f" {MAX_UINT16_ID}.",
                field="format",
                remedy="Ask for format 'ndjson', or leave small objects out.",
            )

    def _cut_at_gaps(self, tracks: Sequence[Track]) -> list[CtcTrack]:
        last_label = {track.track_id: track.track_id for track in tracks}
        ctc_tracks, next_label = [], len(tracks) + 1
        for track in tracks:
            first, *later = split_at_gaps(track)
            parent = 0 if track.parent is None else last_label[track.parent]
            parts = [CtcTrack(track.track_id, int(first[0]), int(first[-1]), parent)]
            for frames in later:
                parts.append(CtcTrack(next_label, int(frames[0]), int(frames[-1]), parts[-1].label))
                next_label += 1
            if later:
                self._with_gaps[track.track_id] = parts
                last_label[track.track_id] = parts[-1].label
            ctc_tracks += parts
        return sorted(ctc_tracks, key=lambda track: track.label)

    def format_tracks(self) -> bytes:
        """Return the content of res_track.txt."""
        lines = (f"{track.label} {track.begin} {track.end} {track.parent}\n" for track in self._ctc_tracks)
        return "".join(lines).encode("ascii")

    def mask_name(self, frame: int) -> str:
        return f"mask{frame:0{self._digits}}.tif"

    def relabel(self, frame: int, track_ids: Labels) -> UInt16:
        """Return the label map [H, W] of a frame. track_ids: its map [H, W] of track ids."""
        table: NDArray[np.uint16] = np.arange(int(track_ids.max(initial=0)) + 1, dtype=np.uint16)
        for track_id, parts in self._with_gaps.items():
            if track_id < len(table):
                table[track_id] = next((part.label for part in parts if part.begin <= frame <= part.end), 0)
        return table[track_ids]

    async def write_zip(self, maps: AsyncIterator[Labels]) -> AsyncIterator[bytes]:
        """Yield the parts of a zip while it is made, with one frame in memory.

        maps: [H, W] of track ids, frame after frame.
        """
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
    """Return the frames of a track, cut where some are missing."""
    if track.end - track.begin + 1 == len(track.frames):
        # Most tracks have no gap, and cutting thousands of them takes a while.
        return [track.frames]
    return np.split(track.frames, np.flatnonzero(np.diff(track.frames) > 1) + 1)
