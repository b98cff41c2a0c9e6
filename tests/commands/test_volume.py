"""`segserve volume`: objects through a volume."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.commands.run_command import run_segserve
from tests.files import sample_files
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
    result = sitk.ReadImage(str(output))
    assert result.GetSize() == source.GetSize()
    assert result.GetSpacing() == pytest.approx(source.GetSpacing())
    assert result.GetOrigin() == pytest.approx(source.GetOrigin())
    labels = sitk.GetArrayFromImage(result)
    assert set(np.unique(labels)) == {0, 3}
    assert labels[2, 20, 12] == 3
