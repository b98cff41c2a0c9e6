"""Objects of single frames to tracks through all of them, with divisions: the linear assignment of Jaqaman et al.
(Nature Methods 2008) by laptrack (Fukai and Kawaguchi, Bioinformatics 2023).

Neighbouring frames are linked first, nearest to nearest as a whole; then the ends of what came out are joined to
beginnings nearby, over missed frames (a gap) or in the middle of another track (a division).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import MissingDependency
from segserve.tracking.detections import Detections
from segserve.types import Int64

MIN_CUTOFF_PX = 15.0  # pixels: laptrack's own default, and TrackMate's


@dataclass(frozen=True)
class LinkingParams:
    """Names of laptrack's `LapTrack`, but the cutoffs are distances between centroids in pixels; laptrack takes their
    squares, which are its costs.

    cutoff: how far an object moves from a frame to the next at most. gap_closing_cutoff: how far it moves while it is
    missed; 0: a track ends where it is. gap_closing_max_frame_count: the next time it is seen is so many frames later
    at most; 2 is one missed frame. splitting_cutoff: how far a daughter is from where its mother was; 0: nothing
    divides. None: the median diameter of the objects, 15 at least, since a daughter's centre is about half a diameter
    off and what moves further than its size is not told from its neighbours by where it is.
    """

    cutoff: float | None = None
    gap_closing_cutoff: float | None = None
    gap_closing_max_frame_count: int = 2
    splitting_cutoff: float | None = None


@dataclass(frozen=True)
class Track:
    """One object from its first frame to its last, or to its division. track_id: from 1, in the order of their
    beginnings. frames: where it was seen, ascending. parent: the track that divided into this one and others."""

    track_id: int
    frames: Int64
    parent: int | None = None

    @property
    def begin(self) -> int:
        return int(self.frames[0])

    @property
    def end(self) -> int:
        return int(self.frames[-1])


@dataclass(frozen=True)
class Tracks:
    """all: by their ids. of: for every frame, [n] the track ids of its detections, in their order."""

    tracks: list[Track]
    track_ids: list[Int64]


def link_tracks(frames: Sequence[Detections], params: LinkingParams) -> Tracks:
    """The same for the same detections. Takes seconds for 50,000 of them, and more where many were missed, for ends are
    compared with all beginnings. Raises MissingDependency."""
    of = [np.zeros(each.count, np.int64) for each in frames]
    if not any(each.count for each in frames):
        return Tracks([], of)
    graph = assign_links(frames, params)
    parents: dict[int, int | None] = {}
    seen: dict[int, list[int]] = {}
    for frame, detections in enumerate(frames):
        for position in range(detections.count):
            node = (frame, position)
            before = next(iter(graph.predecessors(node)), None)
            if before is not None and graph.out_degree(before) == 1:
                track_id = int(of[before[0]][before[1]])
            else:
                track_id = len(parents) + 1
                parents[track_id] = None if before is None else int(of[before[0]][before[1]])
            of[frame][position] = track_id
            seen.setdefault(track_id, []).append(frame)
    return Tracks([Track(each, np.array(seen[each]), parent) for each, parent in parents.items()], of)


def assign_links(frames: Sequence[Detections], params: LinkingParams) -> Any:
    """A networkx graph with every detection as a node (frame, position in it) and an edge from each to what follows
    it: to two where it divides, and to none from more than one."""
    usual = default_cutoff_px(frames)

    def squared(cutoff: float | None) -> float:
        return (usual if cutoff is None else cutoff) ** 2

    tracker = load_laptrack()(
        cutoff=squared(params.cutoff),
        gap_closing_cutoff=squared(params.gap_closing_cutoff),
        gap_closing_max_frame_count=params.gap_closing_max_frame_count,
        splitting_cutoff=squared(params.splitting_cutoff),
        # The cutoffs alone decide how far is too far. At laptrack's own 90 the farthest tenth of all gaps and divisions
        # is refused, however near: of two divisions, one.
        alternative_cost_percentile=100,
    )
    return tracker.predict([each.centres for each in frames])


def load_laptrack() -> Any:
    """The class `LapTrack`; it takes seconds at first. Raises MissingDependency."""
    try:
        from laptrack import LapTrack
    except ImportError:
        raise MissingDependency("laptrack", "tracking", "Linking objects through frames") from None
    return LapTrack


def default_cutoff_px(frames: Sequence[Detections]) -> float:
    """The median diameter of the objects, each taken as a disc; pixels."""
    areas: NDArray[np.int64] = np.concatenate([each.areas for each in frames])
    return max(MIN_CUTOFF_PX, float(2 * np.sqrt(np.median(areas) / np.pi)))
