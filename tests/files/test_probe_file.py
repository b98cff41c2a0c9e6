"""Too large files are refused before they are decoded."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from segserve.errors import TooLarge
from segserve.types import FileLimits
from tests.files import sample_files
from tests.files.sample_files import probe


def test_too_large_files_are_refused_by_their_headers(tmp_path: Path) -> None:
    path = sample_files.write_zip(
        tmp_path / "x.zip", {"1.png": sample_files.encode_png(np.zeros((1100, 1000, 3), np.uint8))}
    )
    with pytest.raises(TooLarge):
        probe(path)
    with pytest.raises(TooLarge, match="64 x 48"):
        probe(sample_files.write_video(tmp_path / "clip.mp4"), FileLimits(20, 1000, 1))
    sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nii"))
    with pytest.raises(TooLarge, match="3600 voxels"):
        probe(tmp_path / "v.nii", FileLimits(20, 1000, 1000))
