"""With `raw`, objects are linked by laptrack, and nothing else is done."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from segserve.errors import MissingDependency
from segserve.tracking.detections import Detections, measure_detections
from segserve.tracking.link_tracks import link_tracks
from segserve.tracking.linking_params import LinkingParams, default_cutoff_px
from tests.tracking.drawn import CELLS, describe, detections_at, draw_tracks, renumber

PARAMS = LinkingParams(raw=True, gap_closing_max_frame_count=2)


def test_the_tracks_of_a_drawn_sequence_are_the_drawn_ones() -> None:
    frames = renumber(draw_tracks())
    tracks = link_tracks([measure_detections(each) for each in frames], PARAMS)
    assert describe(tracks) == [
        (track_id, list(range(begin, end + 1)), mother) for track_id, (begin, end, mother, _) in CELLS.items()
    ]
    for labels, drawn, track_ids in zip(frames, draw_tracks(), tracks.track_ids, strict=True):
        assert np.array_equal(np.concatenate([[0], track_ids])[labels], drawn)


def test_a_division_ends_the_mother_and_begins_two_daughters() -> None:
    tracks = link_tracks(
        [
            detections_at((50, 50)),
            detections_at((50, 50)),
            detections_at((44, 50), (56, 50)),
            detections_at((40, 50), (60, 50)),
        ],
        PARAMS,
    )
    assert describe(tracks) == [(1, [0, 1], None), (2, [2, 3], 1), (3, [2, 3], 1)]


def test_without_splitting_one_daughter_goes_on_and_the_other_is_new() -> None:
    frames = [detections_at((50, 50)), detections_at((50, 50)), detections_at((44, 50), (56, 50))]
    tracks = link_tracks(frames, replace(PARAMS, splitting_cutoff=0))
    assert sorted(describe(tracks)) == [(1, [0, 1, 2], None), (2, [2], None)]


def test_a_gap_of_one_frame_is_closed() -> None:
    frames = [
        detections_at((50, 50)),
        detections_at((52, 50)),
        detections_at(),
        detections_at((56, 50)),
        detections_at((58, 50)),
    ]
    assert describe(link_tracks(frames, PARAMS)) == [(1, [0, 1, 3, 4], None)]
    for without in (replace(PARAMS, gap_closing_cutoff=0), replace(PARAMS, gap_closing_max_frame_count=1)):
        assert describe(link_tracks(frames, without)) == [(1, [0, 1], None), (2, [3, 4], None)]


def test_a_gap_of_two_frames_needs_a_frame_count_of_three() -> None:
    frames = [detections_at((50, 50)), detections_at(), detections_at(), detections_at((52, 50))]
    assert len(link_tracks(frames, PARAMS).tracks) == 2
    assert len(link_tracks(frames, replace(PARAMS, gap_closing_max_frame_count=3)).tracks) == 1


def test_cutoffs_are_pixels() -> None:
    frames = [detections_at((50, 50)), detections_at((70, 50))]
    only = replace(PARAMS, gap_closing_cutoff=0, splitting_cutoff=0)
    assert len(link_tracks(frames, replace(only, cutoff=19.9)).tracks) == 2
    assert len(link_tracks(frames, replace(only, cutoff=20.1)).tracks) == 1


def test_default_cutoffs_are_the_median_diameter_and_at_least_15_pixels() -> None:
    assert default_cutoff_px([detections_at((0, 0)), detections_at((9, 9), area=20)]) == 15
    large = round(np.pi * 20**2)
    assert default_cutoff_px(
        [detections_at((0, 0), (90, 90), area=large), detections_at((5, 5), area=1)]
    ) == pytest.approx(40, rel=1e-3)
    assert (
        len(
            link_tracks(
                [detections_at((0, 0), area=large), detections_at((35, 0), area=large)], PARAMS
            ).tracks
        )
        == 1
    )


def test_the_sum_of_distances_is_least_not_each_distance() -> None:
    # Either alone would take the one at 10, which is nearest to both.
    tracks = link_tracks(
        [detections_at((0, 0), (8, 0)), detections_at((10, 0), (18, 0))], replace(PARAMS, splitting_cutoff=0)
    )
    assert [each.tolist() for each in tracks.track_ids] == [[1, 2], [1, 2]]


def test_the_same_detections_give_the_same_tracks() -> None:
    random = np.random.default_rng(1)
    frames = [
        detections_at(*map(tuple, random.uniform(0, 120, (random.integers(0, 25), 2)).tolist()))
        for _ in range(12)
    ]
    first, second = link_tracks(frames, PARAMS), link_tracks(frames, PARAMS)
    assert describe(first) == describe(second)
    known = {each.track_id: each for each in first.tracks}
    assert list(known) == list(range(1, len(known) + 1))
    for each in known.values():
        assert each.parent is None or known[each.parent].end < each.begin
    mothers = [each.parent for each in known.values() if each.parent]
    assert mothers
    assert all(mothers.count(each) == 2 for each in mothers)


@pytest.mark.parametrize(
    "frames",
    [
        [detections_at()],
        [detections_at(), detections_at()],
        [detections_at((1, 1))],
        [detections_at(), detections_at((1, 1)), detections_at()],
        [detections_at((1, 1)), detections_at((90, 90))],
    ],
)
def test_frames_with_few_objects_or_none(frames: list[Detections]) -> None:
    tracks = link_tracks(frames, PARAMS)
    assert [len(each) for each in tracks.track_ids] == [each.count for each in frames]
    assert len(tracks.tracks) == sum(each.count for each in frames)


def test_without_laptrack_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laptrack", None)
    with pytest.raises(MissingDependency, match="extra tracking: pip install"):
        link_tracks([detections_at((1, 1))], PARAMS)
