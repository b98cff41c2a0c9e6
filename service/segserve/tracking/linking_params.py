"""The parameters of linking objects to tracks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segserve.tracking.detections import Detections

# The least default cutoff: it is laptrack's own default, and TrackMate's.
MIN_CUTOFF_PX = 15.0

# An object may be missed on two frames. laptrack allows one, and so does `raw`.
DEFAULT_GAP_FRAMES = 3
DEFAULT_RAW_GAP_FRAMES = 2


@dataclass(frozen=True)
class LinkingParams:
    """The parameters of linking. Those that laptrack has too have the names of its `LapTrack`, but the cutoffs are
    distances between centroids in pixels. laptrack takes their squares, which are its costs.

    cutoff: how far an object may move from one frame to the next.
    gap_closing_cutoff: how far an object may move while it is missed; 0: no gap is closed.
    gap_closing_max_frame_count: how many frames later it must be detected again; 3 is two missed frames.
    splitting_cutoff: how far a daughter may be from where its mother was; 0: no object divides.
    raw: link by laptrack, which knows only positions, and ignore all that follows.
    size_weight: what a link costs between objects of which one is twice as large; one over the whole cutoff costs 1.
    likeness_weight: what a link costs between objects that are no more alike than any two (`decode.object_descriptor`).
    min_daughter_frames: a division counts if both daughters are detected on so many frames. Pieces that touch and come
        together again are one object. 0: every piece is an object, and every division counts.
    min_track_frames: tracks that are detected on fewer frames are removed, but for those that the first or the last
        frame cuts.

    A cutoff of None is the median diameter of the objects, at least MIN_CUTOFF_PX. A daughter's centre is about half a
    diameter from its mother's. An object that moves further than its size cannot be told from its neighbours by its
    position. A request that was stored before `raw` was added goes on as it began.
    """

    cutoff: float | None = None
    gap_closing_cutoff: float | None = None
    gap_closing_max_frame_count: int = DEFAULT_GAP_FRAMES
    splitting_cutoff: float | None = None
    raw: bool = True
    size_weight: float = 0.25
    likeness_weight: float = 0.25
    min_daughter_frames: int = 5
    min_track_frames: int = 3


def default_cutoff_px(frames: Sequence[Detections]) -> float:
    """Return the median diameter of the objects in pixels, each taken as a disc; at least MIN_CUTOFF_PX."""
    areas = np.concatenate([detections.areas for detections in frames])
    return max(MIN_CUTOFF_PX, float(2 * np.sqrt(np.median(areas) / np.pi)))
