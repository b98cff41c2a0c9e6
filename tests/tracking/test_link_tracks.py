"""Objects of single frames become tracks."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from segserve.errors import MissingDependency
from segserve.tracking.detections import Detections, measure_detections
from segserve.tracking.link_tracks import LinkingParams, Tracks, default_cutoff_px, link_tracks
from tests.tracking.drawn import CELLS, segmented, truth

PARAMS = LinkingParams()


def at(*centres: tuple[float, float], area: int = 100) -> Detections:
    count = len(centres)
    return Detections(np.arange(1, count + 1), np.array(centres, float).reshape(-1, 2), np.full(count, area))


def told(tracks: Tracks) -> list[tuple[int, list[int], int | None]]:
    return [(each.track_id, each.frames.tolist(), each.parent) for each in tracks.tracks]


def test_a_frame_is_measured() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:4, 10:15] = 7
    labels[10:15, 3] = 2
    found = measure_detections(labels)
    assert found.ids.tolist() == [2, 7]
    assert found.centres.tolist() == [[3, 12], [12, 2.5]]  # x, y
    assert found.areas.tolist() == [5, 10]
    assert measure_detections(np.zeros((20, 30), np.uint32)).count == 0


def test_tracks_of_a_drawn_sequence_are_those_it_was_drawn_with() -> None:
    frames = segmented(truth())
    tracks = link_tracks([measure_detections(each) for each in frames], PARAMS)
    assert told(tracks) == [
        (track_id, list(range(begin, end + 1)), mother) for track_id, (begin, end, mother, _) in CELLS.items()
    ]
    for labels, drawn, of in zip(frames, truth(), tracks.track_ids, strict=True):
        assert np.array_equal(np.concatenate([[0], of])[labels], drawn)


def test_a_division_ends_the_mother_and_begins_two_daughters() -> None:
    tracks = link_tracks([at((50, 50)), at((50, 50)), at((44, 50), (56, 50)), at((40, 50), (60, 50))], PARAMS)
    assert told(tracks) == [(1, [0, 1], None), (2, [2, 3], 1), (3, [2, 3], 1)]


def test_without_splitting_a_daughter_goes_on_and_the_other_is_new() -> None:
    frames = [at((50, 50)), at((50, 50)), at((44, 50), (56, 50))]
    tracks = link_tracks(frames, replace(PARAMS, splitting_cutoff=0))
    assert sorted(told(tracks)) == [(1, [0, 1, 2], None), (2, [2], None)]


def test_a_missed_frame_is_bridged_and_its_track_goes_on() -> None:
    frames = [at((50, 50)), at((52, 50)), at(), at((56, 50)), at((58, 50))]
    assert told(link_tracks(frames, PARAMS)) == [(1, [0, 1, 3, 4], None)]
    for without in (replace(PARAMS, gap_closing_cutoff=0), replace(PARAMS, gap_closing_max_frame_count=1)):
        assert told(link_tracks(frames, without)) == [(1, [0, 1], None), (2, [3, 4], None)]


def test_two_missed_frames_take_a_frame_count_of_three() -> None:
    frames = [at((50, 50)), at(), at(), at((52, 50))]
    assert len(link_tracks(frames, PARAMS).tracks) == 2
    assert len(link_tracks(frames, replace(PARAMS, gap_closing_max_frame_count=3)).tracks) == 1


def test_cutoffs_are_pixels() -> None:
    frames = [at((50, 50)), at((70, 50))]
    only = replace(PARAMS, gap_closing_cutoff=0, splitting_cutoff=0)
    assert len(link_tracks(frames, replace(only, cutoff=19.9)).tracks) == 2
    assert len(link_tracks(frames, replace(only, cutoff=20.1)).tracks) == 1


def test_unasked_cutoffs_are_the_median_diameter_and_15_pixels_at_least() -> None:
    assert default_cutoff_px([at((0, 0)), at((9, 9), area=20)]) == 15
    large = round(np.pi * 20**2)
    assert default_cutoff_px([at((0, 0), (90, 90), area=large), at((5, 5), area=1)]) == pytest.approx(
        40, rel=1e-3
    )
    assert len(link_tracks([at((0, 0), area=large), at((35, 0), area=large)], PARAMS).tracks) == 1


def test_the_nearest_as_a_whole_are_linked() -> None:
    # Each alone would take the one at 10, which is nearest to both.
    tracks = link_tracks([at((0, 0), (8, 0)), at((10, 0), (18, 0))], replace(PARAMS, splitting_cutoff=0))
    assert [each.tolist() for each in tracks.track_ids] == [[1, 2], [1, 2]]


def test_the_same_detections_give_the_same_tracks() -> None:
    random = np.random.default_rng(1)
    frames = [
        at(*map(tuple, random.uniform(0, 120, (random.integers(0, 25), 2)).tolist())) for _ in range(12)
    ]
    first, second = link_tracks(frames, PARAMS), link_tracks(frames, PARAMS)
    assert told(first) == told(second)
    known = {each.track_id: each for each in first.tracks}
    assert list(known) == list(range(1, len(known) + 1))
    for each in known.values():
        assert each.parent is None or known[each.parent].end < each.begin
    mothers = [each.parent for each in known.values() if each.parent]
    assert mothers
    assert all(mothers.count(each) == 2 for each in mothers)


@pytest.mark.parametrize(
    "frames", [[at()], [at(), at()], [at((1, 1))], [at(), at((1, 1)), at()], [at((1, 1)), at((90, 90))]]
)
def test_few_objects_or_none(frames: list[Detections]) -> None:
    tracks = link_tracks(frames, PARAMS)
    assert [len(each) for each in tracks.track_ids] == [each.count for each in frames]
    assert len(tracks.tracks) == sum(each.count for each in frames)


def test_without_laptrack_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laptrack", None)
    with pytest.raises(MissingDependency, match=r"segserve\[tracking\]"):
        link_tracks([at((1, 1))], PARAMS)


def test_nothing_heavy_is_imported_before_something_is_linked() -> None:
    program = (
        "import sys, segserve.tracking.link_tracks, segserve.tracking.ctc_format\n"
        "print([name for name in ('laptrack', 'pandas', 'networkx', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
