"""`segserve volume`: objects through a volume."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.commands.run_command import run_segserve
from tests.files import sample_files
from tests.files.dicom.sample_dicom import make_series
from tests.serving import Server


def test_the_label_volume_keeps_the_geometry_of_the_source(tmp_path: Path, server: Server) -> None:
    source = sitk.GetImageFromArray(
        np.stack([sample_files.draw_frame(at)[..., 0] for at in range(6)]).astype(np.int16)
    )
    source.SetSpacing((0.5, 0.75, 2.0))
    source.SetOrigin((-10.0, 5.0, 100.0))
    sitk.WriteImage(source, str(tmp_path / "scan.nrrd"))
    output = tmp_path / "labels.nii.gz"
    options = ["--box", "3:4,10,20,30@2", "--engine", "projection", "--window", "0,255"]
    done = run_segserve("volume", tmp_path / "scan.nrrd", *options, "-o", output, "--server", server.url)
    assert done.returncode == 0, done.stderr
    assert "object 3 ended at slice" in done.stderr
    result = sitk.ReadImage(str(output))
    assert result.GetSize() == source.GetSize()
    assert result.GetSpacing() == pytest.approx(source.GetSpacing())
    assert result.GetOrigin() == pytest.approx(source.GetOrigin())
    labels = sitk.GetArrayFromImage(result)
    assert set(np.unique(labels)) == {0, 3}
    assert labels[2, 20, 12] == 3


def test_a_folder_of_dicom_files_is_a_volume(tmp_path: Path, server: Server) -> None:
    folder, output = tmp_path / "study", tmp_path / "labels.nii.gz"
    series = make_series(5) | make_series(3, series="1.2.3.2", prefix="B")
    for name, data in series.items():
        (folder / name[:1]).mkdir(parents=True, exist_ok=True)
        (folder / name[:1] / name).write_bytes(data)
    (folder / "README.TXT").write_text("hello")
    (folder / ".hidden").write_text("hello")
    options = ["--box", "2:3,3,9,9@1", "--engine", "projection", "-o", output, "--server", server.url]
    done = run_segserve("volume", folder, "--series", "0", *options)
    assert done.returncode == 0, done.stderr
    assert "1.2.3.2" in done.stderr
    assert "1 files left out: README.TXT" in done.stderr
    labels = sitk.ReadImage(str(output))
    assert labels.GetSize() == (16, 12, 5)
    assert labels.GetSpacing() == pytest.approx((0.7, 0.8, 2.5))
    (tmp_path / "empty").mkdir()
    done = run_segserve("volume", tmp_path / "empty", *options)
    assert (done.returncode != 0, "has no files" in done.stderr) == (True, True)
