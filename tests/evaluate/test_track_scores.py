"""SEG, DET and TRA of tracks, from folders and zips of the Cell Tracking Challenge."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segserve.errors import BadInput
from segserve.evaluate.cli import app
from segserve.evaluate.track_scores import TrackedSequence, find_sequences, score_sequence
from tests.tracking.drawn import draw_tracks, write_ground_truth, write_result


@pytest.fixture
def sequence(tmp_path: Path) -> TrackedSequence:
    write_ground_truth(tmp_path / "01_GT")
    write_result(tmp_path / "01_RES")
    return TrackedSequence("01", tmp_path / "01_RES", tmp_path / "01_GT")


def test_a_perfect_result_has_ones(sequence: TrackedSequence) -> None:
    assert score_sequence(sequence) == {"SEG": 1, "DET": 1, "TRA": 1}


def test_a_lost_link_costs_tra_alone(sequence: TrackedSequence) -> None:
    tracks = sequence.result / "res_track.txt"
    lines = [line.split() for line in tracks.read_text().splitlines()]
    assert any(line[3] != "0" for line in lines)
    tracks.write_text("".join(f"{' '.join(line[:3])} 0\n" for line in lines))
    scores = score_sequence(sequence)
    assert (scores["SEG"], scores["DET"]) == (1, 1)
    assert 0.9 < (scores["TRA"] or 0) < 1


def test_smaller_masks_cost_seg_alone(sequence: TrackedSequence) -> None:
    for path in sequence.result.glob("mask*.tif"):
        labels = tifffile.imread(path)
        labels[::5] = 0
        tifffile.imwrite(path, labels)
    scores = score_sequence(sequence)
    assert 0.7 < (scores["SEG"] or 0) < 0.9
    assert (scores["DET"], scores["TRA"]) == (1, 1)


def test_a_truth_without_segmentations_has_no_seg(sequence: TrackedSequence) -> None:
    shutil.rmtree(sequence.truth / "SEG")
    assert score_sequence(sequence) == {"SEG": None, "DET": 1, "TRA": 1}


def test_a_zip_of_tracks_is_read_and_other_entries_are_left_alone(
    sequence: TrackedSequence, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "tracks.zip", "w") as archive:
        for path in sequence.result.iterdir():
            archive.write(path, path.name)
        archive.writestr("../outside.tif", b"")
        archive.writestr("notes/mask000.tif", b"")
    zipped = find_sequences(tmp_path / "tracks.zip", sequence.truth)
    assert score_sequence(zipped[0]) == {"SEG": 1, "DET": 1, "TRA": 1}
    assert not (tmp_path.parent / "outside.tif").exists()


def test_several_sequences_are_one_table(
    sequence: TrackedSequence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sequence.truth, tmp_path / "02_GT")
    shutil.copytree(sequence.result, tmp_path / "02_RES")
    output = tmp_path / "scores.json"
    app(["tracks", str(tmp_path), str(tmp_path), "--json", str(output)], standalone_mode=False)
    assert json.loads(output.read_text())["sequences"]["02"] == {"SEG": 1, "DET": 1, "TRA": 1}
    table = capsys.readouterr().out
    assert "mean" in table
    assert "Evaluate sequence" not in table


def damage_tracks(folder: Path) -> None:
    (folder / "res_track.txt").write_text("1 0 3 0\n")


def garble_tracks(folder: Path) -> None:
    (folder / "res_track.txt").write_text("1 0 3 0\n2 0 x 0\n")


def empty_tracks(folder: Path) -> None:
    (folder / "res_track.txt").write_text("\n")


def damage_mask(folder: Path) -> None:
    path = folder / "mask002.tif"
    path.write_bytes(path.read_bytes()[:60])


def shrink_mask(folder: Path) -> None:
    tifffile.imwrite(folder / "mask002.tif", np.zeros((5, 5), np.uint16))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_tracks, "breaks the rules"),
        (garble_tracks, "Line 2 of res_track"),
        (empty_tracks, "has cells"),
        (damage_mask, r"mask002\.tif"),
        (shrink_mask, "is an array of"),
        (lambda folder: (folder / "mask002.tif").unlink(), "not in both: 2"),
        (lambda folder: (folder / "res_track.txt").unlink(), r"no res_track\.txt"),
    ],
)
def test_a_result_that_cannot_be_scored_is_refused_with_the_reason(
    sequence: TrackedSequence, damage: object, message: str
) -> None:
    assert callable(damage)
    damage(sequence.result)
    with pytest.raises(BadInput, match=message):
        score_sequence(sequence)


def test_missing_truths_are_named(sequence: TrackedSequence, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        find_sequences(tmp_path / "nothing", sequence.truth)
    (tmp_path / "03_RES").mkdir()
    with pytest.raises(BadInput, match="03_RES has no 03_GT"):
        find_sequences(tmp_path, tmp_path)


def test_a_result_without_cells_has_zeros(sequence: TrackedSequence) -> None:
    for path in sequence.result.glob("mask*.tif"):
        tifffile.imwrite(path, np.zeros_like(draw_tracks()[0], np.uint16))
    (sequence.result / "res_track.txt").write_text("")
    assert score_sequence(sequence) == {"SEG": 0, "DET": 0, "TRA": 0}
