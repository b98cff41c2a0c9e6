"""Label volumes have the geometry of the volume that was segmented."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from segserve.errors import BadInput
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_volume
from segserve.files.volume_geometry import RAS_TO_LPS, VolumeGeometry
from segserve.rendering.label_volume import TiffUnit, write_frames_tiff, write_label_volume, write_volume_tiff
from segserve.types import Size
from tests.files.sample_files import LIMITS
from tests.rendering.drawn_lines import draw_disc, index_lines, make_line

SHAPE = (7, 20, 30)  # Z, Y, X


def create_image() -> sitk.Image:
    """Return an oblique image, as MR often is: rotated about three axes."""
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((-12.5, 40.25, 7.0))
    turn = sitk.Euler3DTransform((0, 0, 0), math.radians(20), math.radians(-35), math.radians(10))
    image.SetDirection(turn.GetMatrix())
    return image


def read_geometry(image: sitk.Image) -> VolumeGeometry:
    return VolumeGeometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def draw_labels(axis: int) -> np.ndarray:
    """Draw two objects that overlap, the smaller one on top, as slices along the axis show them."""
    z, y, x = np.ogrid[:7, :20, :30]
    large = (z - 3) ** 2 * 9 + (y - 9) ** 2 + (x - 14) ** 2 <= 81
    small = (z - 3) ** 2 * 9 + (y - 9) ** 2 + (x - 17) ** 2 <= 16
    labels = np.zeros(SHAPE, np.uint16)
    labels[large], labels[small] = 4, 90
    return labels


def lines_along(axis: int, labels: np.ndarray) -> list[bytes]:
    slices = np.moveaxis(labels, axis, 0)
    lines = []
    for index, each in reversed(list(enumerate(slices))):  # in the order of a backward pass
        masks = {4: each > 0, 90: each == 90}
        lines.append(make_line(index, masks, index_key="slice"))
    return lines


def save(parts: Iterator[bytes], path: Path) -> Path:
    with path.open("wb") as out:
        out.writelines(parts)
    return path


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_every_voxel_is_where_it_was(tmp_path: Path, suffix: str, axis: int) -> None:
    image, expected = create_image(), draw_labels(axis)
    results = index_lines(*lines_along(axis, expected))
    path = save(write_label_volume(results, axis, read_geometry(image), suffix), tmp_path / f"labels{suffix}")
    results.close()
    written = sitk.ReadImage(str(path))
    assert written.GetPixelID() == sitk.sitkUInt16
    assert np.array_equal(sitk.GetArrayFromImage(written), expected)
    for index in [(0, 0, 0), (29, 0, 0), (0, 19, 0), (0, 0, 6), (29, 19, 6), (14, 9, 3)]:
        assert written.TransformIndexToPhysicalPoint(index) == pytest.approx(
            image.TransformIndexToPhysicalPoint(index), abs=1e-4
        )


def test_a_volume_of_large_ids_is_32_bit(tmp_path: Path) -> None:
    results = index_lines(make_line(2, {70_000: draw_disc(Size(20, 30), 10, 10, 4)}, index_key="slice"))
    path = save(
        write_label_volume(results, 0, read_geometry(create_image()), ".nrrd"), tmp_path / "labels.nrrd"
    )
    results.close()
    written = sitk.ReadImage(str(path))
    assert written.GetPixelID() == sitk.sitkUInt32
    assert sitk.GetArrayFromImage(written).max() == 70_000


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_imagej_opens_a_volume_with_its_spacing(tmp_path: Path, axis: int) -> None:
    expected = draw_labels(axis)
    results = index_lines(*lines_along(axis, expected))
    written = write_volume_tiff(results, axis, read_geometry(create_image()), TiffUnit.MILLIMETRE)
    path = save(written, tmp_path / "labels.tif")
    results.close()
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert (file.series[0].axes, file.series[0].shape) == ("ZYX", SHAPE)
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (2.5, "mm")
        assert file.pages[0].resolution == pytest.approx((2.0, 1 / 0.75))
        assert np.array_equal(file.asarray(), expected)


def test_a_tiff_has_the_unit_of_its_source_or_none(tmp_path: Path) -> None:
    geometry = VolumeGeometry(
        (30, 20, 7), (0.00065, 0.00065, 0.002), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())
    )
    for unit in (TiffUnit.MICROMETRE, None):
        results = index_lines(*lines_along(0, draw_labels(0)))
        path = save(write_volume_tiff(results, 0, geometry, unit), tmp_path / "labels.tif")
        results.close()
        with tifffile.TiffFile(path) as file:
            found = {name: file.imagej_metadata.get(name) for name in ("spacing", "unit")}
            if unit is None:
                assert found == {"spacing": None, "unit": None}
                assert file.pages[0].resolution == (1, 1)
            else:
                assert found == {"spacing": pytest.approx(2.0), "unit": "um"}
                assert file.pages[0].resolution == pytest.approx((1 / 0.65, 1 / 0.65))


def test_imagej_opens_frames_with_their_rate(tmp_path: Path) -> None:
    size = Size(20, 30)
    results = index_lines(*(make_line(at, {at: draw_disc(size, 10 + at, 10, 4)}) for at in (5, 2)))
    path = save(write_frames_tiff(results, 8, size, 12.5), tmp_path / "labels.tif")
    results.close()
    with tifffile.TiffFile(path) as file:
        assert (file.series[0].axes, file.series[0].shape) == ("TYX", (8, 20, 30))
        assert file.imagej_metadata["fps"] == 12.5
        pages = file.asarray()
    assert [int(page.max()) for page in pages] == [0, 0, 2, 0, 0, 5, 0, 0]
    assert np.array_equal(pages[5] > 0, draw_disc(size, 15, 10, 4))


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    results = index_lines(make_line(0, {1: draw_disc(Size(9, 9), 4, 4, 3)}))
    with pytest.raises(BadInput, match="do not add up"):
        io.BytesIO().writelines(write_label_volume(results, 0, read_geometry(create_image()), ".mha"))
    results.close()


def read_source(path: Path) -> VolumeGeometry:
    with open_volume(path, detect_format(path), LIMITS) as volume:
        return volume.geometry


def write_labels(path: Path, geometry: VolumeGeometry) -> Path:
    results = index_lines(*lines_along(0, draw_labels(0)))
    path = save(write_label_volume(results, 0, geometry, "".join(path.suffixes)), path)
    results.close()
    return path


SHEARED = np.array([[0.5, 0.1, 0.4, -20], [0, 0.75, 0.9, 30], [0, 0, 2, 40], [0, 0, 0, 1]])
# Fields that say where the volume lies and what its numbers mean.
KEPT_FIELDS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
               "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "intent_code", "intent_p1", "intent_name",
               "descrip")  # fmt: skip


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("qform", "sform"), [(1, 4), (2, 0), (0, 3), (0, 0)])
def test_nifti_keeps_the_header_of_its_source(
    tmp_path: Path, image_class: type, order: str, qform: int, sform: int
) -> None:
    header = image_class.header_class(endianness=order)
    source = image_class(np.zeros((30, 20, 7, 2), np.int16), None, header)
    source.set_qform(SHEARED, qform, strip_shears=True)
    source.set_sform(SHEARED, sform)
    source.header.set_intent("t test", (12,), name="kept")
    source.header.set_xyzt_units("micron", "sec")
    source.header["descrip"], source.header["cal_max"] = b"a scan", 900
    source.to_filename(tmp_path / "scan.nii")
    written = nib.load(write_labels(tmp_path / "labels.nii.gz", read_source(tmp_path / "scan.nii")))
    assert type(written) is image_class
    assert np.array_equal(np.asarray(written.dataobj).T, draw_labels(0))
    assert np.allclose(written.affine, nib.load(tmp_path / "scan.nii").affine)
    for field in KEPT_FIELDS:
        assert np.array_equal(written.header[field], source.header[field]), field
    assert written.header["cal_max"] == 0
    assert np.allclose(written.header["pixdim"][1:4], source.header["pixdim"][1:4])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("source", ["scan.nii", "scan.nrrd", "scan.mha"])
def test_sheared_axes_are_kept_in_all_formats(tmp_path: Path, suffix: str, source: str) -> None:
    path = tmp_path / source
    if source == "scan.nii":
        nib.Nifti1Image(np.zeros((30, 20, 7), np.int16), RAS_TO_LPS @ SHEARED).to_filename(path)
    else:
        image = sitk.GetImageFromArray(np.zeros((7, 20, 30), np.int16))
        spacing = np.linalg.norm(SHEARED[:3, :3], axis=0)
        image.SetSpacing(spacing)
        image.SetOrigin(SHEARED[:3, 3])
        image.SetDirection((SHEARED[:3, :3] / spacing).ravel())
        sitk.WriteImage(image, str(path))
    written = write_labels(tmp_path / f"labels{suffix}", read_source(path))
    assert np.allclose(read_source(written).affine, SHEARED, atol=1e-5)
    if suffix == ".nii.gz":
        assert np.allclose(RAS_TO_LPS @ nib.load(written).affine, SHEARED, atol=1e-5)
