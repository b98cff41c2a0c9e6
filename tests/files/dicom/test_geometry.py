"""Drawn series lie in space where SimpleITK puts them, and a point that is drawn at a known place lies there."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.files.dicom.sample_dicom import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    encode,
    make_slice,
    normal_of,
    oblique,
    open_files,
)

ORIENTATIONS = {
    "axial": AXIAL,
    "feet first": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique 5": oblique(5),
    "oblique 20": oblique(20),
    "oblique 70": oblique(70),
    "oblique 120": oblique(120),
    "rounded": tuple(round(value, 4) for value in oblique(33)),
}
SHAPES = {"thin": (0.625, (0.4882813, 0.4882813)), "thick": (7.5, (1.25, 0.75))}
COUNT, SHAPE = 7, (9, 11)
POINT = (6, 3, 5)  # x, y, z


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_series_lies_where_simpleitk_puts_it(tmp_path: Path, orientation: str, shape: str) -> None:
    directions = ORIENTATIONS[orientation]
    step, spacing = SHAPES[shape]
    row, column = np.array(directions[:3]), np.array(directions[3:])
    normal = normal_of(directions) / np.linalg.norm(normal_of(directions))
    origin = np.array([-123.456, 78.9, -1.0625])
    place = origin + POINT[0] * spacing[1] * row + POINT[1] * spacing[0] * column + POINT[2] * step * normal
    files, folder = {}, tmp_path / "files"
    folder.mkdir()
    for number in range(COUNT):
        pixels = np.zeros(SHAPE, np.int16)
        if number == POINT[2]:
            pixels[POINT[1], POINT[0]] = 1000
        made = make_slice(
            pixels, origin + number * step * normal, orientation=directions, number=COUNT - number, spacing=spacing
        )  # fmt: skip
        files[f"{number * 3 % COUNT}"] = encode(made)
        (folder / f"{number}.dcm").write_bytes(encode(made))
    opened = open_files(tmp_path, files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    theirs = np.eye(4)
    theirs[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    theirs[:3, 3] = image.GetOrigin()
    assert np.abs(opened.affine - theirs).max() < 1e-4
    assert np.array_equal(opened.voxels, sitk.GetArrayFromImage(image))
    z, y, x = np.argwhere(opened.voxels == 1000)[0]
    assert (opened.affine @ (x, y, z, 1))[:3] == pytest.approx(place, abs=2e-3)
