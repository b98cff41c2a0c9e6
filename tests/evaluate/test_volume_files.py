"""Pairs of scans and label volumes, in the formats that people have them in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from segserve.errors import BadInput
from segserve.evaluate.ground_truth import FilePair
from segserve.evaluate.volume_files import open_readers, pair_volumes, read_case, read_slices
from segserve.files.file_readers import FileReaders
from segserve.settings import load_settings
from tests.files import sample_files


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileReaders]:
    with open_readers(load_settings(data_dir=tmp_path_factory.mktemp("data"))) as opened:
        yield opened


SCAN = sample_files.make_volume()
LABELS = np.zeros((6, 20, 30), np.uint8)
LABELS[1:5, 4:12, 6:20] = 2
LABELS[2:3, 14:18, 22:28] = 7


def label_image(values: np.ndarray = LABELS) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(SCAN)
    return image


def write_pair(folder: Path, labels_name: str) -> FilePair:
    scan, truth = folder / "scan.nii.gz", folder / labels_name
    sitk.WriteImage(SCAN, scan)
    if truth.suffix == ".npy":
        np.save(truth, LABELS)
    elif truth.suffix == ".tif":
        tifffile.imwrite(truth, LABELS, photometric="minisblack")
    else:
        sitk.WriteImage(label_image(), truth)
    return FilePair("scan", scan, truth)


def test_files_are_paired_by_name_without_both_suffixes(tmp_path: Path) -> None:
    for name in ("scans/a.nii.gz", "scans/b.tif", "labels/a.nrrd", "labels/b.npy", "labels/.hidden.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    pairs = pair_volumes(tmp_path / "scans", tmp_path / "labels")
    assert [(each.name, each.truth.name) for each in pairs] == [("a", "a.nrrd"), ("b", "b.npy")]
    (tmp_path / "labels" / "c.mha").touch()
    with pytest.raises(BadInput, match=r"c\.mha have no partner"):
        pair_volumes(tmp_path / "scans", tmp_path / "labels")


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nrrd", "labels.mha", "labels.tif", "labels.npy"])
@pytest.mark.parametrize("axis", [0, 2])
def test_labels_of_every_format_are_cut_as_the_scan_is(
    tmp_path: Path, readers: FileReaders, name: str, axis: int
) -> None:
    case = read_case(write_pair(tmp_path, name), readers, axis)
    assert np.array_equal(case.labels, np.moveaxis(LABELS, axis, 0))
    assert case.spacing == pytest.approx((2, 0.75, 0.5) if axis == 0 else (0.5, 2, 0.75))
    shown = read_slices(case, readers, axis, (0, 800), {3})
    assert shown[3].shape == (*case.labels.shape[1:], 3)


def test_a_stack_has_the_spacing_that_is_given(tmp_path: Path, readers: FileReaders) -> None:
    values = np.random.default_rng(0).integers(0, 255, LABELS.shape, np.uint8)
    tifffile.imwrite(tmp_path / "scan.tif", values, photometric="minisblack")
    np.save(tmp_path / "labels.npy", LABELS)
    pair = FilePair("scan", tmp_path / "scan.tif", tmp_path / "labels.npy")
    assert read_case(pair, readers, 0).spacing is None
    assert read_case(pair, readers, 0, (5, 1, 2)).spacing == (5, 1, 2)


def test_labels_whose_axes_run_the_other_way_are_turned(tmp_path: Path, readers: FileReaders) -> None:
    pair = write_pair(tmp_path, "labels.nii.gz")
    sitk.WriteImage(sitk.Flip(label_image(), (True, False, True)), pair.truth)
    assert np.array_equal(read_case(pair, readers, 0).labels, LABELS)


def test_labels_on_another_grid_are_refused(tmp_path: Path, readers: FileReaders) -> None:
    pair = write_pair(tmp_path, "labels.nii.gz")
    moved = label_image()
    moved.SetOrigin((0, 0, 0))
    sitk.WriteImage(moved, pair.truth)
    with pytest.raises(BadInput, match="not on the grid of the scan"):
        read_case(pair, readers, 0)
    sitk.WriteImage(sitk.GetImageFromArray(LABELS[:5]), pair.truth)
    with pytest.raises(BadInput):
        read_case(pair, readers, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (LABELS[:5], "has 6 slices of 30 x 20"),
        (LABELS + 0.5, "not whole numbers"),
        (LABELS.astype(np.int16) - 1, "not from 0 to 65535"),
        (LABELS[0], "not .slices, height, width"),
    ],
)
def test_what_is_no_label_volume_is_refused_by_name(
    tmp_path: Path, readers: FileReaders, values: np.ndarray, message: str
) -> None:
    pair = write_pair(tmp_path, "labels.npy")
    np.save(pair.truth, values)
    with pytest.raises(BadInput, match=message) as error:
        read_case(pair, readers, 0)
    assert "labels.npy" in str(error.value)
