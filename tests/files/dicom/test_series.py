"""Series are told apart, and what is no even grid is refused with what was found."""

from pathlib import Path

import numpy as np
import pytest

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.probe_file import probe_file
from segserve.types import FileKind, FileOptions, Size
from tests.files.dicom.sample_dicom import (
    AXIAL,
    CORONAL,
    LIMITS,
    SAGITTAL,
    draw,
    encode,
    make_series,
    make_slice,
    normal_of,
    oblique,
    open_files,
    positions,
    write_zip,
)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, oblique()])
def test_slices_are_sorted_by_position(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    opened = open_files(tmp_path, make_series(6, orientation))
    record = opened.record
    assert (record.kind, record.format, record.count, record.size) == (
        FileKind.VOLUME,
        "dicom",
        6,
        Size(12, 16),
    )
    assert record.spacing == pytest.approx((2.5, 0.8, 0.7), abs=1e-9)
    assert np.array_equal(opened.voxels, np.stack([draw(number) for number in range(6)]))
    expected = np.eye(4)
    expected[:3, 0], expected[:3, 1] = 0.7 * np.array(orientation[:3]), 0.8 * np.array(orientation[3:])
    expected[:3, 2], expected[:3, 3] = 2.5 * normal_of(orientation), (10, 20, 30)
    assert np.abs(opened.affine - expected).max() < 1e-6


def test_a_localizer_with_the_same_uid_is_another_content(tmp_path: Path) -> None:
    files = make_series(6)
    files["LOC"] = encode(make_slice(draw(9), (0, 0, 0), orientation=SAGITTAL, number=0))
    opened = open_files(tmp_path, files)
    assert [(c.series, c.count, c.taken_time) for c in opened.record.contents] == [
        ("1.2.3.1", 6, 0),
        ("1.2.3.1/2", 1, None),
    ]
    assert opened.record.spacing is not None
    assert opened.record.spacing[0] == pytest.approx(2.5)
    other = open_files(tmp_path, files, FileOptions("1.2.3.1/2"))
    assert np.array_equal(other.voxels[0], draw(9))


def test_many_localizers_are_not_taken_before_a_series(tmp_path: Path) -> None:
    files = make_series(3)
    for number in range(9):
        made = make_slice(
            draw(), (0, 0, 5 * number), series="1.2.3.2", number=number, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
        )  # fmt: skip
        files[f"L{number}"] = encode(made)
    record = open_files(tmp_path, files).record
    assert (record.count, [c.count for c in record.contents if c.notes]) == (3, [9])


def test_orientations_are_told_apart(tmp_path: Path) -> None:
    files = {
        f"{number}": encode(
            make_slice(draw(number), (0, 0, 0), orientation=oblique(10 * number), number=number)
        )
        for number in range(7)
    }
    record = open_files(tmp_path, files).record
    assert [content.count for content in record.contents] == [1] * 7
    chosen = open_files(tmp_path, files, FileOptions("5"))
    assert np.array_equal(chosen.voxels[0], draw(5))


def two_phases(**second: object) -> dict[str, bytes]:
    files = make_series(6)
    for number, position in enumerate(positions(6)):
        made = make_slice(draw(10 + number), position, number=7 + number, **second)
        files[f"P{number}"] = encode(made)
    return files


@pytest.mark.parametrize(
    "second", [{}, {"AcquisitionNumber": 2}, {"TemporalPositionIdentifier": 2}, {"EchoTime": 9.0}]
)
def test_points_in_time_are_told_apart(tmp_path: Path, second: dict[str, object]) -> None:
    files = two_phases(**second)
    first = open_files(tmp_path, files)
    (content,) = first.record.contents
    assert (content.times, content.count, content.taken_time) == (2, 6, 0)
    assert "2 images at each place" in content.notes[0]
    assert np.array_equal(first.voxels, np.stack([draw(number) for number in range(6)]))
    later = open_files(tmp_path, files, FileOptions(time=1))
    assert np.array_equal(later.voxels, np.stack([draw(10 + number) for number in range(6)]))
    assert later.record.contents[0].taken_time == 1
    with pytest.raises(BadInput, match="no point in time 2") as raised:
        open_files(tmp_path, files, FileOptions(time=2))
    assert raised.value.field == "time"


def test_a_point_in_time_that_was_broken_off_is_another_content(tmp_path: Path) -> None:
    files = two_phases(AcquisitionNumber=2)
    del files["P5"]
    record = open_files(tmp_path, files).record
    assert [(c.times, c.count) for c in record.contents] == [(1, 6), (1, 5)]


def test_a_scan_that_was_broken_off_keeps_its_whole_points_in_time(tmp_path: Path) -> None:
    """Each slice has a time of its own, as in functional MR."""
    files = {}
    for number in range(4 * 6 + 2):
        time, place = divmod(number, 6)
        made = make_slice(
            draw(10 * time % 30 + place),
            positions(6)[place],
            number=number + 1,
            AcquisitionTime=f"1010{number:02d}",
        )
        files[f"{number * 7 % 26}"] = encode(made)
    record = open_files(tmp_path, files, FileOptions(time=3)).record
    assert [(c.times, c.count) for c in record.contents] == [(4, 6), (1, 2)]
    assert "broken off: 2 images" in record.contents[1].notes[0]


def test_positions_of_repeated_scans_may_differ_by_their_last_digits(tmp_path: Path) -> None:
    files = {}
    for number in range(40 * 6):
        time, place = divmod(number, 6)
        position = positions(6)[place] + (0, 0, 0.001 * (time % 5))
        files[f"{number}"] = encode(make_slice(draw(place), position, number=number + 1))
    record = open_files(tmp_path, files).record
    assert [(c.times, c.count) for c in record.contents] == [(40, 6)]


def test_stacks_of_two_thicknesses_are_series_of_their_own(tmp_path: Path) -> None:
    heights = [(2.5 * number, 2.5) for number in range(6)] + [(15 + 5.0 * number, 5.0) for number in range(4)]
    files = {
        f"{number}": encode(make_slice(draw(), (0, 0, height), number=number, SliceThickness=thickness))
        for number, (height, thickness) in enumerate(heights)
    }
    record = open_files(tmp_path, files).record
    assert [content.count for content in record.contents] == [6, 4]
    assert "several stacks, by thickness" in record.contents[0].notes[0]


def test_images_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    files = make_series(6)
    files["extra"] = encode(make_slice(draw(9), positions(6)[2], number=3, SOPInstanceUID="1.2.9"))
    with pytest.raises(BadInput, match="7 images at 6 places, up to 2 at one"):
        open_files(tmp_path, files)


def test_images_side_by_side_are_no_points_in_time(tmp_path: Path) -> None:
    files = make_series(4)
    for number, position in enumerate(positions(4)):
        files[f"P{number}"] = encode(make_slice(draw(), position + np.array([20, 0, 0]), number=9 + number))
    with pytest.raises(BadInput, match="side by side"):
        open_files(tmp_path, files)


def test_a_file_that_is_there_twice_is_left_out(tmp_path: Path) -> None:
    files = make_series(6)
    record = open_files(tmp_path, files | {f"copy/{name}": data for name, data in files.items()}).record
    assert (record.count, record.contents[0].times, record.left_out.count) == (6, 1, 6)
    assert record.left_out.files[0].reason == "It is there twice."


def test_phases_whose_slices_lie_between_each_other_are_series_of_their_own(tmp_path: Path) -> None:
    files = make_series(6, AcquisitionNumber=1)
    for number, position in enumerate(positions(6)):
        made = make_slice(draw(), position + np.array([0, 0, 0.7]), number=9 + number, AcquisitionNumber=2)
        files[f"P{number}"] = encode(made)
    record = open_files(tmp_path, files).record
    assert [content.count for content in record.contents] == [6, 6]
    assert record.spacing is not None
    assert record.spacing[0] == pytest.approx(2.5)


def without(count: int, *missing: int, step: float = 2.5) -> dict[str, bytes]:
    return {
        f"{number}": encode(make_slice(draw(), position, number=number))
        for number, position in enumerate(positions(count, step=step))
        if number not in missing
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (without(20, 9, 10), "2 slices are missing.*at 52.50, 55.00 mm.*after slice 9 of 18"),
        (without(5, 3), "1 slice is missing.*at 37.50 mm"),
        (without(400, 200, step=0.5), "1 slice is missing.*at 130.00 mm"),
        (without(20, *range(5, 15)), "10 slices are missing.*and 4 more"),
    ],
)
def test_missing_positions_are_named(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    with pytest.raises(BadInput, match=expected) as raised:
        open_files(tmp_path, files)
    assert raised.value.field == "file"


def uneven(*heights: float) -> dict[str, bytes]:
    return {
        f"{number}": encode(make_slice(draw(), (0, 0, height), number=number))
        for number, height in enumerate(heights)
    }


def test_irregular_spacing_is_never_averaged(tmp_path: Path) -> None:
    for heights in ((0, 2.5, 5, 7.9, 10, 12.5), (0, 1, 2, 4.3, 7), (0, 2.5, 5, 8)):
        with pytest.raises(BadInput, match=r"not evenly spaced|missing"):
            open_files(tmp_path, uneven(*heights))


def test_rounded_positions_are_read_and_told(tmp_path: Path) -> None:
    heights = [round(0.625 * number, 1) for number in range(30)]
    opened = open_files(tmp_path, uneven(*heights))
    assert opened.record.count == 30
    assert "rounded positions" in opened.record.contents[0].notes[0]
    exact = open_files(tmp_path, uneven(*[round(0.625 * number, 2) for number in range(30)]))
    assert exact.record.contents[0].notes == ()


def test_a_tilted_gantry_shears_the_grid_and_is_told(tmp_path: Path) -> None:
    tilted = {
        f"{number}": encode(make_slice(draw(number), (0, 0.9 * number, 2.5 * number), number=number))
        for number in range(6)
    }
    opened = open_files(tmp_path, tilted)
    assert "tilted by 19.8 degrees" in opened.record.contents[0].notes[0]
    for number in range(6):
        place = opened.affine @ (0, 0, number, 1)
        assert place[:3] == pytest.approx((0, 0.9 * number, 2.5 * number), abs=1e-6)
    shifted = tilted | {"2": encode(make_slice(draw(2), (3, 1.8, 5), number=2))}
    with pytest.raises(BadInput, match="shifted sideways"):
        open_files(tmp_path, shifted)


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    plan = encode(
        make_slice(draw(), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", series="1.2.3.7", Rows=None)
    )
    report = make_slice(draw(), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", series="1.2.3.8", Rows=None)
    del report.PixelData
    files = {f"VIEWER/lib{number:03d}.dll": bytes(300) + b"MZ" for number in range(70)}
    files |= {f"DICOM/{name}": data for name, data in make_series(6).items()}
    files |= {"plan.dcm": plan, "report.dcm": encode(report), "autorun.inf": b"[autorun]"}
    record = open_files(tmp_path, files).record
    assert (record.kind, record.count, record.left_out.count) == (FileKind.VOLUME, 6, 73)
    assert len(record.left_out.files) == 20
    assert record.left_out.files[0].reason == "It is not DICOM."


def test_a_zip_without_an_image_says_what_is_in_it(tmp_path: Path) -> None:
    report = make_slice(draw(), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None)
    del report.PixelData
    with pytest.raises(UnsupportedFormat, match=r"no DICOM image in the zip.*Basic Text SR"):
        open_files(tmp_path, {"report.dcm": encode(report)})


def test_the_largest_series_is_taken_and_another_can_be(tmp_path: Path) -> None:
    files = make_series(3, SeriesNumber=1, SeriesDescription="scout") | make_series(
        6, series="1.2.3.2", prefix="B", SeriesNumber=2
    )
    record = open_files(tmp_path, files).record
    assert [(c.series, c.description, c.count, c.taken_time) for c in record.contents] == [
        ("1.2.3.1", "CT scout", 3, None),
        ("1.2.3.2", "CT", 6, 0),
    ]
    for series in ("0", "1.2.3.1"):
        assert open_files(tmp_path, files, FileOptions(series)).record.count == 3
    with pytest.raises(BadInput, match="no series '2'") as raised:
        open_files(tmp_path, files, FileOptions("2"))
    assert "1: 1.2.3.2" in raised.value.remedy


def test_each_header_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip of 150 series of one file: listing them is not quadratic, and what is listed is bounded."""
    made = make_slice(draw(), SeriesNumber=1)
    files = {}
    for number in range(150):
        made.SeriesInstanceUID = made.SOPInstanceUID = f"1.2.3.{number}"
        files[f"{number}"] = encode(made)
    path = write_zip(tmp_path / "many.zip", files)
    heads, read = [], DicomEntries.head
    monkeypatch.setattr(DicomEntries, "head", lambda self, entry: heads.append(entry) or read(self, entry))
    record = probe_file(path, "", LIMITS, FileOptions("1.2.3.149"))
    assert heads == list(range(150))
    assert len(record.contents) == 100
    assert [content.series for content in record.contents if content.taken_time is not None] == ["1.2.3.149"]


def test_a_bad_series_names_the_others(tmp_path: Path) -> None:
    files = without(9, 4) | make_series(3, series="1.2.3.2", prefix="B")
    with pytest.raises(BadInput, match="no volume") as raised:
        open_files(tmp_path, files)
    assert "1: 1.2.3.2" in raised.value.remedy
    assert open_files(tmp_path, files, FileOptions("1.2.3.2")).record.count == 3
