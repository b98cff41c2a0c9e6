"""Tracks hold: pieces are mended, gaps are closed, and a division counts where both daughters last."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segserve.tracking.detections import Contacts, Detections, measure_detections
from segserve.tracking.link_tracks import link_tracks
from segserve.tracking.linking_params import LinkingParams
from segserve.tracking.tracks import Tracks
from tests.tracking.disturbed_cells import Movie, draw_movie
from tests.tracking.drawn import CELLS, describe, detections_at, draw_tracks, renumber

PARAMS = LinkingParams(raw=False)
RAW = LinkingParams(raw=True, gap_closing_max_frame_count=2)


def touching(*centres: tuple[float, float], areas: Sequence[int], length: float = 9.0) -> Detections:
    """Return the detections of a frame whose first two objects share a border."""
    return replace(
        detections_at(*centres),
        areas=np.array(areas),
        contacts=Contacts(np.array([[0, 1]]), np.array([length])),
    )


WHOLE = detections_at((50, 50), area=200)
PIECES = touching((45, 50), (55, 50), areas=(100, 100))
DAUGHTERS = [
    PIECES,
    touching((44, 50), (56, 50), areas=(100, 100)),
    detections_at((40, 50), (60, 50)),
    detections_at((37, 50), (63, 50)),
    detections_at((34, 50), (66, 50)),
]


def test_the_tracks_of_a_drawn_sequence_are_the_drawn_ones() -> None:
    frames = renumber(draw_tracks())
    tracks = link_tracks([measure_detections(each) for each in frames], PARAMS)
    assert describe(tracks) == [
        (track_id, list(range(begin, end + 1)), mother) for track_id, (begin, end, mother, _) in CELLS.items()
    ]
    for labels, drawn, track_ids in zip(frames, draw_tracks(), tracks.track_ids, strict=True):
        assert np.array_equal(np.concatenate([[0], track_ids])[labels], drawn)


@pytest.mark.parametrize("pieces", [1, 2, 6])
def test_an_object_that_is_found_in_pieces_on_some_frames_is_one_object(pieces: int) -> None:
    frames = [WHOLE] * 4 + [PIECES] * pieces + [WHOLE] * 4
    tracks = link_tracks(frames, PARAMS)
    assert describe(tracks) == [(1, list(range(len(frames))), None)]
    assert [each.tolist() for each in tracks.track_ids[4 : 4 + pieces]] == [[1, 1]] * pieces
    assert len(link_tracks(frames, RAW).tracks) > 1


def test_pieces_in_three_are_mended_too() -> None:
    three = replace(
        detections_at((43, 50), (50, 50), (57, 50)),
        areas=np.array([70, 60, 70]),
        contacts=Contacts(np.array([[0, 1], [1, 2]]), np.array([9.0, 9.0])),
    )
    assert describe(link_tracks([WHOLE] * 4 + [three] + [WHOLE] * 4, PARAMS)) == [(1, list(range(9)), None)]


def test_a_division_begins_where_the_daughters_are_two_first() -> None:
    tracks = link_tracks([WHOLE] * 4 + DAUGHTERS, PARAMS)
    assert describe(tracks) == [
        (1, [0, 1, 2, 3], None),
        (2, [4, 5, 6, 7, 8], 1),
        (3, [4, 5, 6, 7, 8], 1),
    ]


def test_a_division_counts_only_if_both_daughters_last() -> None:
    frames = [WHOLE] * 4 + [detections_at((42, 50), (58, 50))] * 2 + [detections_at((42, 50))] * 4
    assert [each.parent for each in link_tracks(frames, replace(PARAMS, min_daughter_frames=3)).tracks] == [
        None
    ]
    lasting = link_tracks(frames, replace(PARAMS, min_daughter_frames=2))
    assert sorted(each.parent or 0 for each in lasting.tracks) == [0, 1, 1]


def test_pieces_at_the_end_are_daughters_from_min_daughter_frames_on() -> None:
    for pieces, expected in ((1, 1), (2, 1), (3, 3)):
        frames = [WHOLE] * 6 + [PIECES] * pieces
        assert len(link_tracks(frames, replace(PARAMS, min_daughter_frames=3)).tracks) == expected


def test_two_cells_that_touch_and_are_found_as_one_on_few_frames_stay_two() -> None:
    frames = [PIECES] * 6 + [WHOLE] + [PIECES] * 6
    assert [track.parent for track in link_tracks(frames, PARAMS).tracks] == [None, None]


def test_cells_that_share_a_short_border_are_not_pieces() -> None:
    meeting = touching((45, 50), (55, 50), areas=(100, 100), length=1.0)
    frames = [WHOLE] * 4 + [meeting] + [WHOLE] * 4
    assert len(link_tracks(frames, replace(PARAMS, min_track_frames=0)).tracks) == 2


def test_a_cell_that_comes_beside_another_is_no_daughter() -> None:
    alone, beside = detections_at((50, 50), area=400), detections_at((50, 50), (66, 50), area=400)
    tracks = link_tracks([alone] * 5 + [beside] * 6, PARAMS)
    assert describe(tracks) == [(1, list(range(11)), None), (2, list(range(5, 11)), None)]


def test_daughters_are_alike_in_size() -> None:
    unequal = replace(detections_at((42, 50), (58, 50)), areas=np.array([150, 40]))
    assert [each.parent for each in link_tracks([WHOLE] * 5 + [unequal] * 6, PARAMS).tracks] == [None, None]


def test_without_splitting_nothing_divides() -> None:
    tracks = link_tracks([WHOLE] * 4 + DAUGHTERS, replace(PARAMS, splitting_cutoff=0))
    assert [each.parent for each in tracks.tracks] == [None, None]


@pytest.mark.parametrize(("missed", "frame_count", "expected"), [(3, 4, 1), (3, 3, 2), (1, 2, 1), (1, 1, 2)])
def test_gaps_are_closed_up_to_the_frame_count(missed: int, frame_count: int, expected: int) -> None:
    frames = [WHOLE] * 4 + [detections_at()] * missed + [detections_at((52, 50), area=200)] * 4
    params = replace(PARAMS, gap_closing_max_frame_count=frame_count)
    assert len(link_tracks(frames, params).tracks) == expected
    assert len(link_tracks(frames, replace(params, gap_closing_cutoff=0)).tracks) == 2


def test_objects_on_few_frames_are_left_out_but_for_those_that_the_first_or_last_frame_cuts() -> None:
    speck = detections_at((50, 50), (150, 150), area=200)
    inside = [WHOLE] * 3 + [speck] * 2 + [WHOLE] * 3
    tracks = link_tracks(inside, replace(PARAMS, min_track_frames=3))
    assert describe(tracks) == [(1, list(range(8)), None)]
    assert tracks.track_ids[3].tolist() == [1, 0]
    assert len(link_tracks(inside, replace(PARAMS, min_track_frames=2)).tracks) == 2
    for cut in ([speck] + [WHOLE] * 5, [WHOLE] * 5 + [speck]):
        assert len(link_tracks(cut, PARAMS).tracks) == 2


def test_size_tells_objects_apart_that_cross() -> None:
    small, large = (40, 400)
    before = replace(detections_at((50, 50), (60, 50)), areas=np.array([small, large]))
    after = replace(detections_at((57, 50), (53, 50)), areas=np.array([small, large]))
    by_size = link_tracks([before, after], replace(PARAMS, size_weight=0.5))
    assert [each.tolist() for each in by_size.track_ids] == [[1, 2], [1, 2]]
    by_place = link_tracks([before, after], replace(PARAMS, size_weight=0))
    assert [each.tolist() for each in by_place.track_ids] == [[1, 2], [2, 1]]


def test_likeness_tells_objects_apart_that_cross() -> None:
    shared = np.array([5.0, 0, 0])
    looks = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    descriptors = (shared + looks) / np.linalg.norm(shared + looks, axis=1, keepdims=True)
    before = replace(detections_at((50, 50), (60, 50)), descriptors=descriptors.astype(np.float32))
    after = replace(detections_at((57, 50), (53, 50)), descriptors=descriptors.astype(np.float32))
    by_look = link_tracks([before, after], replace(PARAMS, likeness_weight=0.5))
    assert [each.tolist() for each in by_look.track_ids] == [[1, 2], [1, 2]]
    by_place = link_tracks([before, after], replace(PARAMS, likeness_weight=0))
    assert [each.tolist() for each in by_place.track_ids] == [[1, 2], [2, 1]]


def test_the_same_detections_give_the_same_tracks() -> None:
    frames = [measure_detections(labels) for labels in draw_movie(5, missed=0.1, cut=0.2).found]
    first, second = link_tracks(frames, PARAMS), link_tracks(frames, PARAMS)
    assert describe(first) == describe(second)
    known = {each.track_id: each for each in first.tracks}
    assert list(known) == list(range(1, len(known) + 1))
    mothers = [each.parent for each in known.values() if each.parent]
    assert all(mothers.count(each) == 2 for each in mothers)
    for each in known.values():
        assert each.parent is None or known[each.parent].end < each.begin


@pytest.mark.parametrize(
    "frames",
    [
        [detections_at()],
        [detections_at(), detections_at()],
        [detections_at((1, 1))],
        [detections_at((1, 1)), detections_at((90, 90))],
    ],
)
def test_frames_with_few_objects_or_none(frames: list[Detections]) -> None:
    tracks = link_tracks(frames, PARAMS)
    assert [len(each) for each in tracks.track_ids] == [each.count for each in frames]
    assert len(tracks.tracks) == sum(each.count for each in frames)


def test_disturbed_cells_keep_their_tracks() -> None:
    wrong, of_raw = np.zeros(2, int), np.zeros(2, int)
    for seed in range(3):
        movie = draw_movie(seed, missed=0.05, cut=0.1)
        wrong += count_wrong(movie, PARAMS)
        of_raw += count_wrong(movie, RAW)
    switches, false_divisions = wrong.tolist()
    assert switches <= 3
    assert false_divisions <= 1
    assert (of_raw >= 10).all()


def count_wrong(movie: Movie, params: LinkingParams) -> tuple[int, int]:
    """Return how often a cell's track changes, and by how many there are more divisions than true ones."""
    frames = [measure_detections(labels) for labels in movie.found]
    tracks = link_tracks(frames, params)
    switches, last = 0, dict[int, int]()
    for truth, found, track_ids in zip(movie.truth, movie.found, tracks.track_ids, strict=True):
        tracked = np.append(0, track_ids)[found]
        for cell in np.unique(truth[truth > 0]).tolist():
            inside = tracked[(truth == cell) & (tracked > 0)]
            if len(inside):
                now = int(np.bincount(inside).argmax())
                switches += last.get(cell, now) != now
                last[cell] = now
    true_mothers = {parent for parent in movie.parents.values() if parent}
    return switches, max(0, len(list_mothers(tracks)) - len(true_mothers))


def list_mothers(tracks: Tracks) -> set[int]:
    return {track.parent for track in tracks.tracks if track.parent}


def test_ten_cells_of_a_real_time_lapse_keep_their_tracks() -> None:
    """The detections are the starter's on 30 frames of living cells, none of which divides. Ten of them were followed
    by hand: time_lapse_truth.csv has a point in the nucleus for each on every frame."""
    folder = Path(__file__).parent
    frames = [
        read_detections(line) for line in (folder / "time_lapse_detections.jsonl").read_text().splitlines()
    ]
    with (folder / "time_lapse_truth.csv").open() as file:
        truth = [
            (int(row["cell"]), int(row["frame"]), float(row["x"]), float(row["y"]))
            for row in csv.DictReader(file)
        ]
    tracks = link_tracks(frames, PARAMS)
    assert count_switches(frames, tracks, truth) == 0
    assert not list_mothers(tracks)
    assert len(tracks.tracks) < 25
    raw = link_tracks(frames, RAW)
    assert count_switches(frames, raw, truth) > 20
    assert len(list_mothers(raw)) > 20


def read_detections(line: str) -> Detections:
    """Read a line of time_lapse_detections.jsonl: objects as [x, y, area], contacts as [object, object, length]."""
    content = json.loads(line)
    objects, contacts = np.array(content["objects"]), np.array(content["contacts"]).reshape(-1, 3)
    return Detections(
        np.arange(1, len(objects) + 1),
        objects[:, :2],
        objects[:, 2].astype(np.int64),
        Contacts(contacts[:, :2].astype(np.int64), contacts[:, 2]),
    )


def count_switches(
    frames: Sequence[Detections], tracks: Tracks, truth: Sequence[tuple[int, int, float, float]]
) -> int:
    """Return how often the track at a cell's true points changes, over all cells."""
    switches, last = 0, dict[int, int]()
    for cell, frame, x, y in truth:
        track_ids, detections = tracks.track_ids[frame], frames[frame]
        centres = {
            track: np.average(detections.centres[mine], axis=0, weights=detections.areas[mine])
            for track in np.unique(track_ids[track_ids > 0]).tolist()
            if (mine := track_ids == track).any()
        }
        distances = {track: float(np.hypot(*(centre - (x, y)))) for track, centre in centres.items()}
        nearest = min(distances, key=distances.__getitem__)
        if distances[nearest] < 15:
            switches += last.get(cell, nearest) != nearest
            last[cell] = nearest
    return switches


def test_laptrack_and_pandas_are_imported_only_for_raw() -> None:
    program = (
        "import sys, numpy as np\n"
        "from segserve.tracking.detections import Detections\n"
        "from segserve.tracking.link_tracks import link_tracks\n"
        "from segserve.tracking.linking_params import LinkingParams\n"
        "import segserve.tracking.ctc_format\n"
        "link_tracks([Detections(np.ones(1, int), np.ones((1, 2)), np.ones(1, int))] * 3, LinkingParams(raw=False))\n"
        "print([name for name in ('laptrack', 'pandas', 'networkx', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
