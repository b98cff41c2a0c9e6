"""Multi-frame and enhanced objects, dose grids and Siemens mosaics become the slices that they hold."""

from pathlib import Path

import numpy as np
import pytest

from segserve.errors import BadInput, UnsupportedFormat
from segserve.types import FileKind, FileOptions
from tests.files.dicom.sample_dicom import (
    AXIAL,
    draw,
    encode,
    item,
    make_slice,
    normal_of,
    oblique,
    open_files,
    positions,
)
from tests.files.dicom.sample_multi_frame import encode_csa_header, encode_enhanced, encode_mosaic


@pytest.mark.parametrize("orientation", [AXIAL, oblique()])
def test_an_enhanced_object_is_a_volume(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    frames = [(draw(n), position, {}) for n, position in enumerate(positions(5, orientation, 3.0))]
    shuffled = [frames[number] for number in (3, 0, 4, 1, 2)]
    opened = open_files(tmp_path, {"e": encode_enhanced(shuffled, orientation)})
    assert np.array_equal(opened.voxels, np.stack([2 * draw(n).astype(int) - 5 for n in range(5)]))
    for number, position in enumerate(positions(5, orientation, 3.0)):
        assert (opened.affine @ (0, 0, number, 1))[:3] == pytest.approx(position, abs=1e-6)
    assert [one.frame_number for one in opened.source.slices] == [2, 4, 5, 1, 3]


def test_frames_that_run_downwards_keep_their_order(tmp_path: Path) -> None:
    frames = [(draw(n), position, {}) for n, position in enumerate(positions(5, AXIAL, 3.0)[::-1])]
    opened = open_files(tmp_path, {"e": encode_enhanced(frames)})
    assert np.array_equal(opened.voxels[0], 2 * draw(0).astype(int) - 5)
    for number, position in enumerate(positions(5, AXIAL, 3.0)[::-1]):
        assert (opened.affine @ (0, 0, number, 1))[:3] == pytest.approx(position)


def test_points_in_time_of_an_enhanced_object(tmp_path: Path) -> None:
    frames = [
        (draw(10 * time + number), position, {"FrameContentSequence": [item(TemporalPositionIndex=time + 1)]})
        for number, position in enumerate(positions(4))
        for time in range(3)
    ]
    files = {"e": encode_enhanced(frames)}
    record = open_files(tmp_path, files).record
    assert (record.count, record.contents[0].times) == (4, 3)
    assert "temporal position" in record.contents[0].notes[0]
    later = open_files(tmp_path, files, FileOptions(time=2))
    assert np.array_equal(later.voxels, np.stack([2 * draw(20 + n).astype(int) - 5 for n in range(4)]))


def test_echoes_and_stacks_of_an_enhanced_object(tmp_path: Path) -> None:
    frames = [
        (draw(number), position, {"MREchoSequence": [item(EffectiveEchoTime=echo)],
                                  "FrameContentSequence": [item(StackID=stack)]})
        for stack in "12"
        for echo in (20.0, 5.0)
        for number, position in enumerate(positions(3))
    ]  # fmt: skip
    record = open_files(tmp_path, {"e": encode_enhanced(frames)}).record
    assert [(content.times, content.count) for content in record.contents] == [(2, 3), (2, 3)]
    assert "echo time" in record.contents[0].notes[0]


def test_a_multi_frame_object_with_one_position(tmp_path: Path) -> None:
    frames = np.stack([draw(number) for number in range(7)])
    opened = open_files(tmp_path, {"m": encode(make_slice(frames, (1, 2, 3), NumberOfFrames=7))})
    assert (opened.record.count, opened.record.spacing) == (7, pytest.approx((2.5, 0.8, 0.7)))
    assert "2.5 mm apart by its slice thickness" in opened.record.contents[0].notes[0]
    assert np.array_equal(opened.voxels, frames)
    unknown = make_slice(frames, (1, 2, 3), NumberOfFrames=7, SliceThickness=None)
    assert open_files(tmp_path, {"m": encode(unknown)}).record.kind is FileKind.FRAMES, (
        "no spacing is guessed"
    )


@pytest.mark.parametrize("start", [0.0, -40.0])
def test_a_dose_grid(tmp_path: Path, start: float) -> None:
    frames = np.stack([draw(number) for number in range(4)]).astype(np.uint32)
    offsets = [start + 3.0 * number for number in range(4)]
    made = make_slice(
        frames,
        (1, 2, -40),
        NumberOfFrames=4,
        GridFrameOffsetVector=offsets,
        Modality="RTDOSE",
        SliceThickness=None,
    )
    opened = open_files(tmp_path, {"d": encode(made)})
    assert opened.record.spacing == pytest.approx((3.0, 0.8, 0.7))
    assert opened.geometry.origin == pytest.approx((1, 2, -40))
    uneven = make_slice(frames, NumberOfFrames=4, GridFrameOffsetVector=[0, 3, 6, 12])
    with pytest.raises(BadInput, match="1 slice is missing"):
        open_files(tmp_path, {"d": encode(uneven)})


def test_tiles_of_a_whole_slide_are_refused(tmp_path: Path) -> None:
    made = make_slice(
        np.zeros((2, 8, 8, 3), np.uint8), NumberOfFrames=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6"
    )
    with pytest.raises(UnsupportedFormat, match="whole slide"):
        open_files(tmp_path, {"w": encode(made)})


# Siemens mosaics.


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("orientation", [AXIAL, oblique()])
def test_mosaics_are_taken_apart(
    tmp_path: Path, orientation: tuple[float, ...], sign: int, version: int
) -> None:
    normal = sign * normal_of(orientation)
    csa = encode_csa_header(
        version, NumberOfImagesInMosaic=["11"], SliceNormalVector=[f"{value:.8f}" for value in normal]
    )
    files = {}
    for time in range(3):
        slices = [draw(number) + 300 * time for number in range(11)]
        files[f"{time}"] = encode_mosaic(slices, orientation, (10, 20, 30), csa, time + 1)
    for time in range(3):
        opened = open_files(tmp_path, files, FileOptions(time=time))
        assert (opened.record.count, opened.record.contents[0].times) == (11, 3)
        order = {
            tuple(np.round(one.position or (), 4)): index for index, one in enumerate(opened.source.slices)
        }
        for number in range(11):
            place = np.array([10, 20, 30]) + 3.6 * number * normal
            index = order[tuple(np.round(place, 4))]
            assert (opened.affine @ (0, 0, index, 1))[:3] == pytest.approx(place, abs=1e-4)
            assert np.array_equal(opened.voxels[index], draw(number) + 300 * time)
    assert all(one.tile is not None for one in opened.source.slices)


def test_a_mosaic_that_cannot_be_taken_apart_is_refused(tmp_path: Path) -> None:
    whole = encode_csa_header(2, NumberOfImagesInMosaic=["4"], SliceNormalVector=["0", "0", "1"])
    slices = [draw(number) for number in range(4)]
    for csa in (b"", whole[:50], whole[:100], b"SV10" + b"\xff" * 200):
        with pytest.raises(BadInput, match="Siemens mosaic whose private elements"):
            open_files(tmp_path, {"m": encode_mosaic(slices, AXIAL, (0, 0, 0), csa)})
