"""The reference for linking: laptrack, which knows only the positions of objects.

The method is the linear assignment problem (LAP) of Jaqaman et al. (Nature Methods 2008), by laptrack (Fukai and
Kawaguchi, Bioinformatics 2023).

First the objects of neighbouring frames are linked, so that the sum of the squared distances is least. Then the ends of
these segments are joined to beginnings nearby: over missed frames (gap closing), or in the middle of another track (a
division, "splitting").
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from segserve.errors import MissingDependency
from segserve.tracking.detections import Detections
from segserve.tracking.linking_params import LinkingParams
from segserve.tracking.tracks import Track, Tracks


def link_by_laptrack(frames: Sequence[Detections], params: LinkingParams) -> Tracks:
    """Link the detections of all frames to tracks, at least one detection. All cutoffs are numbers.

    It takes seconds for 50,000 detections. It takes longer if many were missed, because every end is compared with all
    beginnings.

    Raises MissingDependency.
    """
    track_ids = [np.zeros(detections.count, np.int64) for detections in frames]
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

    def squared(cutoff: float | None) -> float:
        assert cutoff is not None
        return cutoff**2

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
