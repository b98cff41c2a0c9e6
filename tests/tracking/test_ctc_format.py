"""The format of the Cell Tracking Challenge, checked by py-ctcmetrics, its metrics in Python."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segserve.errors import TooLarge
from segserve.tracking.ctc_format import CtcResult
from segserve.tracking.detections import measure_detections
from segserve.tracking.link_tracks import LinkingParams, Track, Tracks, link_tracks
from tests.tracking.drawn import CELLS, UInt32, draw_tracks, renumber, shuffle_ids, write_ground_truth


def link_and_relabel(frames: list[UInt32]) -> tuple[Tracks, list[UInt32]]:
    """Return the tracks, and the frames' maps of track ids."""
    detections = [measure_detections(each) for each in frames]
    tracks = link_tracks(detections, LinkingParams())
    maps = []
    for labels, objects, track_ids in zip(frames, detections, tracks.track_ids, strict=True):
        table = np.zeros(int(labels.max()) + 1, np.uint32)
        table[objects.ids] = track_ids
        maps.append(table[labels])
    return tracks, maps


def write_zip(tracks: list[Track], maps: list[UInt32]) -> bytes:
    async def iterate_maps() -> AsyncIterator[UInt32]:
        for each in maps:
            yield each

    async def collect() -> bytes:
        return b"".join([part async for part in CtcResult(tracks, len(maps)).write_zip(iterate_maps())])

    return asyncio.run(collect())


def extract(tracks: list[Track], maps: list[UInt32], folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(write_zip(tracks, maps))) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)


def test_a_drawn_sequence_is_valid_and_perfect(tmp_path: Path) -> None:
    metrics = pytest.importorskip("ctc_metrics")
    tracks, maps = link_and_relabel(shuffle_ids(renumber(draw_tracks())))
    extract(tracks.tracks, maps, tmp_path / "01_RES")
    write_ground_truth(tmp_path / "01_GT")
    scores = metrics.evaluate_sequence(
        str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "DET", "SEG", "TRA", "CT", "TF", "BC"], 1
    )
    names = ("Valid", "DET", "SEG", "TRA", "CT", "TF", "BC(0)")
    assert {name: scores[name] for name in names} == dict.fromkeys(names, 1)
    assert scores["gt_divisions"] == 2


def test_the_files_are_those_of_the_challenge(tmp_path: Path) -> None:
    tracks, maps = link_and_relabel(renumber(draw_tracks()))
    extract(tracks.tracks, maps, tmp_path)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [f"mask{frame:03}.tif" for frame in range(len(maps))] + ["res_track.txt"]
    for frame, drawn in enumerate(draw_tracks()):
        stored = tifffile.imread(tmp_path / f"mask{frame:03}.tif")
        assert stored.dtype == np.uint16
        assert np.array_equal(stored, drawn)
    lines = [f"{each} {begin} {end} {mother or 0}\n" for each, (begin, end, mother, _) in CELLS.items()]
    assert (tmp_path / "res_track.txt").read_text() == "".join(lines)


def test_a_track_with_a_gap_goes_on_as_its_own_child(tmp_path: Path) -> None:
    metrics = pytest.importorskip("ctc_metrics")
    drawn = draw_tracks()
    drawn[6][drawn[6] == 5] = 0  # it divides later
    tracks, maps = link_and_relabel(renumber(drawn))
    assert np.array_equal(maps, drawn)
    text = CtcResult(tracks.tracks, len(maps)).format_tracks().decode().splitlines()
    assert text[4] == "5 4 5 2"
    assert text[6:] == ["7 9 13 9", "8 9 13 9", "9 7 8 5"]
    extract(tracks.tracks, maps, tmp_path)
    assert metrics.validate_sequence(str(tmp_path), 1) == {"Valid": 1}
    stored = tifffile.imread(tmp_path / "mask007.tif")
    assert np.array_equal(stored == 9, drawn[7] == 5)


@pytest.mark.parametrize(
    ("count", "name"), [(1, "mask000.tif"), (1000, "mask000.tif"), (1001, "mask0000.tif")]
)
def test_names_have_as_many_digits_as_the_last_frame(count: int, name: str) -> None:
    assert CtcResult([], count).mask_name(0) == name


def test_a_result_without_tracks_is_valid() -> None:
    content = write_zip([], [np.zeros((4, 5), np.uint32)])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("res_track.txt") == b""


def test_more_tracks_than_16_bits_hold_are_refused_first() -> None:
    tracks = [Track(each, np.zeros(1, np.int64)) for each in range(1, 65_537)]
    CtcResult(tracks[:-1], 1)
    with pytest.raises(TooLarge, match="65536 tracks"):
        CtcResult(tracks, 1)


def test_one_frame_at_a_time_is_read() -> None:
    read = []

    async def iterate_maps() -> AsyncIterator[UInt32]:
        for frame in range(3):
            read.append(frame)
            yield np.full((50, 50), 1, np.uint32)

    async def first_part() -> bytes:
        return await anext(CtcResult([Track(1, np.arange(3))], 3).write_zip(iterate_maps()))

    assert asyncio.run(first_part())
    assert read == [0]
