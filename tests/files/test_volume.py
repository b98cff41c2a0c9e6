"""Volumes keep their geometry; headers that name other files and too large series are refused."""

import locale
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from segserve.errors import BadInput, TooLarge
from segserve.files.open_file import open_volume
from segserve.types import FileKind, FileLimits, Size
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_volumes_keep_their_geometry(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"volume{suffix}"
    sitk.WriteImage(sample_files.make_volume(), str(path))
    renamed = path.rename(tmp_path / "upload")
    record = probe(renamed)
    assert (record.kind, record.count, record.size) == (FileKind.VOLUME, 6, Size(20, 30))
    assert record.spacing == pytest.approx((2.0, 0.75, 0.5))
    with open_volume(renamed, record.format, LIMITS) as volume:
        assert np.array_equal(volume.voxels(), sitk.GetArrayFromImage(sample_files.make_volume()))
        assert volume.geometry.origin == pytest.approx((-10, 5, 100))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["upload"]


def test_a_volume_may_have_one_point_in_time_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    sitk.WriteImage(sitk.JoinSeries([sample_files.make_volume()]), str(path))
    assert probe(path).count == 6
    sitk.WriteImage(sitk.JoinSeries([sample_files.make_volume(), sample_files.make_volume()]), str(path))
    with pytest.raises(BadInput, match="4 axes"):
        probe(path)


def test_a_zip_of_a_dicom_series(tmp_path: Path) -> None:
    entries = sample_files.write_dicom_series(tmp_path / "d", 5) | sample_files.write_dicom_series(
        tmp_path / "d", 3, "2"
    )
    path = sample_files.write_zip(
        tmp_path / "series.zip", {f"study/{name}": data for name, data in entries.items()}
    )
    record = probe(path)
    assert (record.kind, record.format, record.count) == (FileKind.VOLUME, "dicom", 5)
    with open_volume(path, "dicom", LIMITS) as volume:
        assert np.array_equal(volume.voxels(), sitk.GetArrayFromImage(sample_files.make_volume(5)))


def test_too_large_a_series_is_refused_by_its_headers(tmp_path: Path) -> None:
    path = sample_files.write_zip(tmp_path / "series.zip", sample_files.write_dicom_series(tmp_path / "d", 5))
    with pytest.raises(TooLarge, match="3000 voxels"):
        probe(path, FileLimits(20, 1 << 20, 1000))
    assert locale.getencoding().upper() == "UTF-8", "GDCM sets another"


def test_an_unreadable_dicom_is_refused(tmp_path: Path) -> None:
    path = sample_files.write_zip(tmp_path / "x.zip", {"1.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 500})
    with pytest.raises(BadInput):
        probe(path)


ELSEWHERE = {
    "nrrd": b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: /etc/passwd\n\n",
    "mhd": b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
    "mhd colon": b"ObjectType = Image\nNDims = 3\nElementDataFile : /etc/passwd\nElementDataFile = LOCAL\n",
    "nrrd late": b"NRRD0004\n" + b"# x\n" * 20_000 + b"data file: /etc/passwd\n\n",
    "mhd list": b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LIST\n/etc/passwd\n",
    "mhd late": b"NDims = 3\nComment = " + b"x" * 70_000 + b"\nElementDataFile = /etc/passwd\n",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_headers_that_name_other_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v"
    path.write_bytes(ELSEWHERE[name])
    with pytest.raises(BadInput, match="another file"):
        probe(path)
