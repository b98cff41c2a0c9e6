"""Results in the form of the Cell Tracking Challenge, judged by py-ctcmetrics, its metrics in Python."""

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
from tests.tracking.drawn import CELLS, UInt32, segmented, shuffled, truth


def linked(frames: list[UInt32]) -> tuple[Tracks, list[UInt32]]:
    """And the frames' maps of track ids."""
    detections = [measure_detections(each) for each in frames]
    tracks = link_tracks(detections, LinkingParams())
    maps = []
    for labels, found, of in zip(frames, detections, tracks.track_ids, strict=True):
        table = np.zeros(int(labels.max()) + 1, np.uint32)
        table[found.ids] = of
        maps.append(table[labels])
    return tracks, maps


def zipped(tracks: list[Track], maps: list[UInt32]) -> bytes:
    async def given() -> AsyncIterator[UInt32]:
        for each in maps:
            yield each

    async def gathered() -> bytes:
        return b"".join([part async for part in CtcResult(tracks, len(maps)).write_zip(given())])

    return asyncio.run(gathered())


def unzipped(tracks: list[Track], maps: list[UInt32], folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(zipped(tracks, maps))) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)


def as_truth(folder: Path) -> None:
    """The drawn sequence as the challenge's own reference: man_track*.tif and man_track.txt, man_seg*.tif."""
    for name in ("TRA", "SEG"):
        (folder / name).mkdir(parents=True)
    for frame, labels in enumerate(truth()):
        tifffile.imwrite(folder / "TRA" / f"man_track{frame:03}.tif", labels.astype(np.uint16))
        tifffile.imwrite(folder / "SEG" / f"man_seg{frame:03}.tif", labels.astype(np.uint16))
    lines = [f"{each} {begin} {end} {mother or 0}\n" for each, (begin, end, mother, _) in CELLS.items()]
    (folder / "TRA" / "man_track.txt").write_text("".join(lines))


def test_a_drawn_sequence_is_valid_and_perfect(tmp_path: Path) -> None:
    metrics = pytest.importorskip("ctc_metrics")
    tracks, maps = linked(shuffled(segmented(truth())))
    unzipped(tracks.tracks, maps, tmp_path / "01_RES")
    as_truth(tmp_path / "01_GT")
    found = metrics.evaluate_sequence(
        str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "DET", "SEG", "TRA", "CT", "TF", "BC"], 1
    )
    asked = ("Valid", "DET", "SEG", "TRA", "CT", "TF", "BC(0)")
    assert {name: found[name] for name in asked} == dict.fromkeys(asked, 1)
    assert found["gt_divisions"] == 2


def test_files_are_those_that_the_challenge_wants(tmp_path: Path) -> None:
    tracks, maps = linked(segmented(truth()))
    unzipped(tracks.tracks, maps, tmp_path)
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [f"mask{frame:03}.tif" for frame in range(len(maps))] + ["res_track.txt"]
    for frame, drawn in enumerate(truth()):
        stored = tifffile.imread(tmp_path / f"mask{frame:03}.tif")
        assert stored.dtype == np.uint16
        assert np.array_equal(stored, drawn)
    lines = [f"{each} {begin} {end} {mother or 0}\n" for each, (begin, end, mother, _) in CELLS.items()]
    assert (tmp_path / "res_track.txt").read_text() == "".join(lines)


def test_a_track_that_was_missed_goes_on_as_its_own_child(tmp_path: Path) -> None:
    metrics = pytest.importorskip("ctc_metrics")
    drawn = truth()
    drawn[6][drawn[6] == 5] = 0  # it divides later
    tracks, maps = linked(segmented(drawn))
    assert np.array_equal(maps, drawn)
    text = CtcResult(tracks.tracks, len(maps)).format_tracks().decode().splitlines()
    assert text[4] == "5 4 5 2"
    assert text[6:] == ["7 9 13 9", "8 9 13 9", "9 7 8 5"]
    unzipped(tracks.tracks, maps, tmp_path)
    assert metrics.validate_sequence(str(tmp_path), 1) == {"Valid": 1}
    stored = tifffile.imread(tmp_path / "mask007.tif")
    assert np.array_equal(stored == 9, drawn[7] == 5)


@pytest.mark.parametrize(
    ("count", "name"), [(1, "mask000.tif"), (1000, "mask000.tif"), (1001, "mask0000.tif")]
)
def test_names_have_as_many_digits_as_the_last_frame(count: int, name: str) -> None:
    assert CtcResult([], count).mask_name(0) == name


def test_nothing_found_is_a_result_too() -> None:
    content = zipped([], [np.zeros((4, 5), np.uint32)])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("res_track.txt") == b""


def test_more_tracks_than_16_bits_hold_are_refused_before_anything_is_made() -> None:
    tracks = [Track(each, np.zeros(1, np.int64)) for each in range(1, 65_537)]
    CtcResult(tracks[:-1], 1)
    with pytest.raises(TooLarge, match="65536 tracks"):
        CtcResult(tracks, 1)


def test_one_frame_at_a_time_is_read() -> None:
    read = []

    async def given() -> AsyncIterator[UInt32]:
        for frame in range(3):
            read.append(frame)
            yield np.full((50, 50), 1, np.uint32)

    async def first_part() -> bytes:
        return await anext(CtcResult([Track(1, np.arange(3))], 3).write_zip(given()))

    assert asyncio.run(first_part())
    assert read == [0]
