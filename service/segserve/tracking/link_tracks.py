"""Linking: the objects of single frames become tracks, with divisions.

    objects of all frames -> linked to segments (`segments`) -> pieces mended to objects (`mend_splits`), and again
    -> divisions (`divisions`) -> tracks, without those that are too short

`LinkingParams.raw` links by laptrack instead, which knows only positions (`laptrack_reference`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segserve.tracking.detections import Detections
from segserve.tracking.divisions import find_divisions
from segserve.tracking.laptrack_reference import link_by_laptrack
from segserve.tracking.linking_params import LinkingParams, default_cutoff_px
from segserve.tracking.mend_splits import mend_splits
from segserve.tracking.objects import FrameObjects, centre_descriptors, group_detections, single_pieces
from segserve.tracking.segments import Segment, link_segments
from segserve.tracking.tracks import Track, Tracks

# Each round mends a segment with one other; objects in more pieces than this are rare.
MAX_MENDING_ROUNDS = 6


def link_tracks(frames: Sequence[Detections], params: LinkingParams) -> Tracks:
    """Link the detections of all frames to tracks. Equal detections give equal tracks.

    Raises MissingDependency for `raw`.
    """
    if not any(detections.count for detections in frames):
        return Tracks([], [np.zeros(detections.count, np.int64) for detections in frames])
    params = resolve_cutoffs(frames, params)
    if params.raw:
        return link_by_laptrack(frames, params)
    cutoff, gap_cutoff = params.cutoff or 0.0, params.gap_closing_cutoff or 0.0
    frames = centre_descriptors(frames)
    pieces = [single_pieces(detections) for detections in frames]
    for _ in range(MAX_MENDING_ROUNDS):
        objects = [group_detections(*each) for each in zip(frames, pieces, strict=True)]
        segments = link_segments(objects, params, cutoff, gap_cutoff)
        mended = (
            mend_splits(objects, segments, params.min_daughter_frames) if params.min_daughter_frames else None
        )
        if mended is None:
            break
        pieces = mended
    mothers = find_divisions(objects, segments, params.splitting_cutoff or 0.0, params.min_daughter_frames)
    segments, parents = part_mothers(segments, mothers)
    return build_tracks(objects, *remove_short(segments, parents, params.min_track_frames, len(frames)))


def resolve_cutoffs(frames: Sequence[Detections], params: LinkingParams) -> LinkingParams:
    """Replace cutoffs of None by the size of the objects."""
    default = default_cutoff_px(frames)
    cutoffs = (params.cutoff, params.gap_closing_cutoff, params.splitting_cutoff)
    cutoff, gap_closing, splitting = (default if each is None else each for each in cutoffs)
    return replace(params, cutoff=cutoff, gap_closing_cutoff=gap_closing, splitting_cutoff=splitting)


def part_mothers(
    segments: Sequence[Segment], mothers: dict[int, int]
) -> tuple[list[Segment], dict[int, int]]:
    """Part the segments of mothers where their daughters begin.

    Return all segments, and the parent of each daughter.
    """
    parted, parents = [dict(segment) for segment in segments], dict[int, int]()
    # The last division of a segment first, so that the first one keeps the mother's number.
    for daughter, mother in sorted(mothers.items(), key=lambda item: -min(segments[item[0]])):
        frame = min(segments[daughter])
        rest = {each: position for each, position in parted[mother].items() if each >= frame}
        parted[mother] = {each: position for each, position in parted[mother].items() if each < frame}
        # Whoever had this mother after this division has its rest as mother now.
        parents |= {child: len(parted) for child, parent in parents.items() if parent == mother}
        parents[daughter], parents[len(parted)] = mother, mother
        parted.append(rest)
    return parted, parents


def remove_short(
    segments: Sequence[Segment], parents: dict[int, int], min_frames: int, frame_count: int
) -> tuple[list[Segment], list[int | None]]:
    """Remove segments on few frames, but for mothers, daughters, and those that the first or the last frame cuts."""
    related = parents.keys() | set(parents.values())
    kept = [
        index
        for index, segment in enumerate(segments)
        if len(segment) >= min_frames
        or index in related
        or min(segment) == 0
        or max(segment) == frame_count - 1
    ]
    kept.sort(key=lambda index: (min(segments[index]), next(iter(segments[index].values()))))
    number = {old: new for new, old in enumerate(kept)}
    return [segments[old] for old in kept], [number[parents[old]] if old in parents else None for old in kept]


def build_tracks(
    objects: Sequence[FrameObjects], segments: Sequence[Segment], parents: Sequence[int | None]
) -> Tracks:
    """Number the segments as tracks from 1, in the order in which they begin."""
    track_ids = [np.zeros(sum(map(len, each.pieces)), np.int64) for each in objects]
    tracks = []
    for track_id, (segment, parent) in enumerate(zip(segments, parents, strict=True), 1):
        for frame, position in segment.items():
            track_ids[frame][list(objects[frame].pieces[position])] = track_id
        tracks.append(Track(track_id, np.array(sorted(segment)), None if parent is None else parent + 1))
    return Tracks(tracks, track_ids)
