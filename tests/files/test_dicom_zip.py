"""A zip of a DICOM series is read as a volume."""

import locale
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from segserve.errors import BadInput, TooLarge
from segserve.files.open_file import open_volume
from segserve.types import FileKind, FileLimits
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe


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
