"""Linking: the objects of single frames become tracks, with divisions.

The method is the linear assignment problem (LAP) of Jaqaman et al. (Nature Methods 2008), by laptrack (Fukai and
Kawaguchi, Bioinformatics 2023).

First the objects of neighbouring frames are linked, so that the sum of the squared distances is least. Then the ends of
these segments are joined to beginnings nearby: over missed frames (gap closing), or in the middle of another track (a
division, "splitting").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import MissingDependency
from segserve.tracking.detections import Detections
from segserve.types import Int64

# The least default cutoff: it is laptrack's own default, and TrackMate's.
MIN_CUTOFF_PX = 15.0


@dataclass(frozen=True)
class LinkingParams:
    """The parameters of linking. They have the names of laptrack's `LapTrack`, but the cutoffs are distances between
    centroids in pixels. laptrack takes their squares, which are its costs.

    cutoff: how far an object may move from one frame to the next.
    gap_closing_cutoff: how far an object may move while it is missed; 0: no gap is closed.
    gap_closing_max_frame_count: how many frames later it must be detected again; 2 is one missed frame.
    splitting_cutoff: how far a daughter may be from where its mother was; 0: no object divides.

    A cutoff of None is the median diameter of the objects, at least MIN_CUTOFF_PX. A daughter's centre is about half a
    diameter from its mother's. An object that moves further than its size cannot be told from its neighbours by its
    position.
    """

    cutoff: float | None = None
    gap_closing_cutoff: float | None = None
    gap_closing_max_frame_count: int = 2
    splitting_cutoff: float | None = None


@dataclass(frozen=True)
class Track:
    """One object, from its first frame to its last, or to its division.

    track_id: from 1, in the order in which tracks begin.
    frames: where it was detected, ascending.
    parent: the track that divided into this one and others; None if there is none.
    """

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
    """The result of linking.

    tracks: in the order of their ids.
    track_ids: for every frame, [n] the track ids of its detections, in their order.
    """

    tracks: list[Track]
    track_ids: list[Int64]


def link_tracks(frames: Sequence[Detections], params: LinkingParams) -> Tracks:
    """Link the detections of all frames to tracks. Equal detections give equal tracks.

    It takes seconds for 50,000 detections. It takes longer if many were missed, because every end is compared with all
    beginnings.

    Raises MissingDependency.
    """
    track_ids = [np.zeros(detections.count, np.int64) for detections in frames]
    if not any(detections.count for detections in frames):
        return Tracks([], track_ids)
    graph = assign_links(frames, params)
    parents: dict[int, int | None] = {}
    frames_of_track: dict[int, list[int]] = {}
    for frame, detections in enumerate(frames):
        for position in range(detections.count):
            node = (frame, position)
            before = next(iter(graph.predecessors(node)), None)
            if before is not None and graph.out_degree(before) == 1:
                track_id = int(track_ids[before[0]][before[1]])
            else:
                track_id = len(parents) + 1
                parents[track_id] = None if before is None else int(track_ids[before[0]][before[1]])
            track_ids[frame][position] = track_id
            frames_of_track.setdefault(track_id, []).append(frame)
    tracks = [
        Track(track_id, np.array(frames_of_track[track_id]), parent) for track_id, parent in parents.items()
    ]
    return Tracks(tracks, track_ids)


def assign_links(frames: Sequence[Detections], params: LinkingParams) -> Any:
    """Return a networkx graph of the links, by laptrack.

    Every detection is a node (frame, position in the frame). An edge leads from each detection to the next of its
    track, or to two where it divides. No detection has more than one predecessor.
    """
    default = default_cutoff_px(frames)

    def squared(cutoff: float | None) -> float:
        return (default if cutoff is None else cutoff) ** 2

    tracker = load_laptrack()(
        cutoff=squared(params.cutoff),
        gap_closing_cutoff=squared(params.gap_closing_cutoff),
        gap_closing_max_frame_count=params.gap_closing_max_frame_count,
        splitting_cutoff=squared(params.splitting_cutoff),
        # With 100 the cutoffs alone decide. With laptrack's default, 90, the farthest tenth of all gaps and divisions
        # is refused, however near they are: of two divisions, one.
        alternative_cost_percentile=100,
    )
    return tracker.predict([detections.centres for detections in frames])


def load_laptrack() -> Any:
    """Return the class `LapTrack`. The first import takes seconds. Raises MissingDependency."""
    try:
        from laptrack import LapTrack
    except ImportError:
        raise MissingDependency("laptrack", "tracking", "Linking objects through frames") from None
    return LapTrack


def default_cutoff_px(frames: Sequence[Detections]) -> float:
    """Return the median diameter of the objects in pixels, each taken as a disc; at least MIN_CUTOFF_PX."""
    areas: NDArray[np.int64] = np.concatenate([detections.areas for detections in frames])
    return max(MIN_CUTOFF_PX, float(2 * np.sqrt(np.median(areas) / np.pi)))
