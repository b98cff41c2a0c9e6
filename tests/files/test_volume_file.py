"""Volumes are read as nibabel and SimpleITK read them: voxels, scale, geometry, points in time, colours."""

import bz2
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.freesurfer import MGHImage

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.files.open_file import open_frames, open_volume
from segserve.files.volume_geometry import RAS_TO_LPS, VolumeGeometry
from segserve.types import FileKind, FileLimits, FileOptions, Size
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe

VALUES = np.random.default_rng(0).integers(0, 900, (7, 6, 5)).astype(np.int16)  # x, y, z
OBLIQUE = np.array([[0.8, 0.1, 0.3, -20], [-0.1, 0.8, 0.6, 30], [-0.2, -0.6, 2.4, 40], [0, 0, 0, 1]])
SHEAR = np.array([[1, 0.3, 0, -20], [0, 1, 0.5, 30], [0, 0, 2, 40], [0, 0, 0, 1]])


def create_rotation() -> np.ndarray:
    """Return an affine of three right angles, oblique, with voxels of 0.5 x 0.75 x 2 mm."""
    rotation = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * (0.5, 0.75, 2), (-20, 30, 40)
    return affine


def read(path: Path, options: FileOptions = FileOptions()) -> tuple[np.ndarray, VolumeGeometry]:
    record = probe(path, options=options)
    with open_volume(path, record.format, LIMITS, options) as volume:
        return volume.voxels(), volume.geometry


def save(image: object, path: Path) -> Path:
    image.to_filename(path)  # type: ignore[attr-defined]
    return path.rename(path.with_name("upload"))


def check_like_nibabel(path: Path, image: nib.spatialimages.SpatialImage) -> None:
    voxels, geometry = read(path)
    assert np.array_equal(voxels, np.asarray(image.dataobj).T)
    assert np.allclose(geometry.affine, RAS_TO_LPS @ image.affine, atol=1e-6)


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


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [create_rotation(), SHEAR])
def test_nifti_is_read_as_by_nibabel(
    tmp_path: Path, image_class: type, suffix: str, affine: np.ndarray
) -> None:
    image = image_class(VALUES, affine)
    check_like_nibabel(save(image, tmp_path / f"v{suffix}"), image)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_mgh_is_read_as_by_nibabel(tmp_path: Path, suffix: str) -> None:
    image = MGHImage(VALUES, create_rotation())
    check_like_nibabel(save(image, tmp_path / f"v{suffix}"), image)


def test_the_scale_of_the_header_applies(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    path = save(nib.Nifti1Image(VALUES * 0.25 - 7, np.eye(4), header), tmp_path / "v.nii.gz")
    path = path.rename(path.with_name("v.nii.gz"))
    expected = np.asarray(nib.load(path).dataobj).T
    voxels, _ = read(path)
    assert voxels.dtype == np.float32
    assert np.allclose(voxels, expected, atol=1e-3)


def test_units_other_than_millimetres_are_converted(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VALUES, np.diag([250.0, 250, 1000, 1]))
    image.header.set_xyzt_units("micron")
    assert probe(save(image, tmp_path / "v.nii")).spacing == pytest.approx((1.0, 0.25, 0.25))


def test_a_shear_is_told_and_right_angles_are_not(tmp_path: Path) -> None:
    sheared = probe(save(nib.Nifti1Image(VALUES, SHEAR), tmp_path / "v.nii"))
    assert "sheared by 16.7 degrees" in sheared.contents[0].notes[0]
    assert probe(save(nib.Nifti1Image(VALUES, create_rotation()), tmp_path / "v.nii")).contents == ()


@pytest.mark.parametrize(
    "spoil", [{"srow_x": [0, 0, 0, 1]}, {"srow_z": [0, 1, 0, 0], "srow_y": [0, 1, 0, 0]}]
)
def test_a_geometry_that_is_no_place_in_space_is_refused(
    tmp_path: Path, spoil: dict[str, list[float]]
) -> None:
    image = nib.Nifti1Image(VALUES, SHEAR)
    for name, row in spoil.items():
        image.header[name] = row
    data = bytearray(save(nib.Nifti1Image(VALUES, SHEAR), tmp_path / "v.nii").read_bytes())
    data[:348] = image.header.binaryblock
    data[254:256], data[344:348] = b"\1\0", b"n+1\0"
    path = tmp_path / "upload"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="no place in space"):
        probe(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_points_in_time_are_told_and_chosen(tmp_path: Path, suffix: str) -> None:
    phases = [sample_files.make_volume() + 1000 * number for number in range(3)]
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(sitk.JoinSeries(phases), str(path))
    record = probe(path)
    assert (record.count, record.contents[0].times, record.contents[0].taken_time) == (6, 3, 0)
    assert record.spacing == pytest.approx((2.0, 0.75, 0.5))
    for time, phase in enumerate(phases):
        voxels, _ = read(path, FileOptions(time=time))
        assert np.array_equal(voxels, sitk.GetArrayFromImage(phase))
    assert probe(path, options=FileOptions(time=2)).contents[0].taken_time == 2
    with pytest.raises(BadInput, match="no point in time 3"):
        probe(path, options=FileOptions(time=3))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadInput, match="early"):
        probe(path)
    with pytest.raises(TooLarge):
        probe(path, FileLimits(20, 1 << 20, 3000))


def test_one_point_in_time_is_no_series(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    sitk.WriteImage(sitk.JoinSeries([sample_files.make_volume()]), str(path))
    record = probe(path)
    assert (record.count, record.contents) == (6, ())
    with pytest.raises(BadInput, match="no series"):
        probe(path, options=FileOptions(series="1"))


def test_a_time_axis_may_be_the_fastest(tmp_path: Path) -> None:
    values = np.arange(2 * 4 * 3 * 2, dtype=np.uint8)
    head = "NRRD0004\ntype: uint8\ndimension: 4\nsizes: 2 4 3 2\nkinds: list domain domain domain\nencoding: raw\n\n"
    path = tmp_path / "v"
    path.write_bytes(head.encode() + values.tobytes())
    voxels, _ = read(path, FileOptions(time=1))
    assert np.array_equal(voxels, values.reshape(2, 3, 4, 2)[..., 1])


def make_colours(dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, (5, 20, 30, 3)).astype(dtype)  # z, y, x


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_colours_are_frames(tmp_path: Path, suffix: str) -> None:
    colours = make_colours()
    path = tmp_path / f"v{suffix}"
    if suffix.startswith(".nii"):
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        values = np.ascontiguousarray(colours.transpose(2, 1, 0, 3)).view(rgb)[..., 0]
        nib.Nifti1Image(values, np.diag([0.5, 0.5, 2, 1])).to_filename(path)
    else:
        image = sitk.GetImageFromArray(colours, isVector=True)
        image.SetSpacing((0.5, 0.5, 2))
        sitk.WriteImage(image, str(path))
    record = probe(path)
    assert (record.kind, record.count, record.size) == (FileKind.FRAMES, 5, Size(20, 30))
    assert record.spacing == (2, 0.5, 0.5)
    frames = open_frames(path, record.format, LIMITS)
    try:
        assert all(np.array_equal(frames.read(index), colours[index]) for index in range(5))
    finally:
        frames.close()


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_vectors_are_no_colours(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(make_colours(np.float32), isVector=True), str(path))
    with pytest.raises(BadInput, match="axes"):
        probe(path)


def test_text_headers_may_have_windows_line_ends_and_comments(tmp_path: Path) -> None:
    expected = sitk.GetArrayFromImage(sample_files.make_volume())
    for suffix in (".nrrd", ".mha"):
        path = tmp_path / f"v{suffix}"
        sitk.WriteImage(sample_files.make_volume(), str(path))
        data = path.read_bytes()
        at = len(data) - expected.nbytes
        head = data[:at].replace(b"NRRD0004\n", b"NRRD0004\n# a comment: of two parts\n")
        head = head.replace(b"NDims", b"Comment = by hand\nComment = twice\nNDims").replace(b"\n", b"\r\n")
        path.write_bytes(head + data[at:])
        assert np.array_equal(read(path)[0], expected)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("affine", [create_rotation(), SHEAR])
def test_text_headers_have_the_geometry_that_itk_reads(
    tmp_path: Path, suffix: str, affine: np.ndarray
) -> None:
    image = sitk.GetImageFromArray(VALUES)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((affine[:3, :3] / spacing).ravel())
    image.SetOrigin(affine[:3, 3])
    path = tmp_path / f"v{suffix}"
    sitk.WriteImage(image, str(path))
    _, geometry = read(path)
    assert np.allclose(geometry.affine, affine, atol=1e-6)
    assert probe(path).contents == () or affine is SHEAR


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1)), ("left-posterior-superior", (1, 1, 1))],
)
def test_spaces_of_nrrd_are_turned_to_itks(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    head = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nspace: {space}\nencoding: bzip2\n"
        'space directions: (0,2,0) (3,0,0) (0,0,4)\nspace origin: (5,6,7)\nspace units: "um" "um" "um"\n\n'
    )
    path = tmp_path / "v"
    path.write_bytes(head.encode() + bz2.compress(bytes(24)))
    _, geometry = read(path)
    expected = np.diag([*signs, 1]) @ [[0, 3, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1000]] / 1000
    assert np.allclose(geometry.affine, expected)


@pytest.mark.parametrize(("keep", "message"), [(-1, "last bytes"), (-20, "early"), (60, "early")])
def test_bzip2_that_ends_early_is_refused(tmp_path: Path, keep: int, message: str) -> None:
    head = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 40 30 20\nencoding: bz2\n\n"
    packed = bz2.compress(np.random.default_rng(0).bytes(24000))
    path = tmp_path / "v"
    path.write_bytes(head + packed[:keep])
    with pytest.raises(BadInput, match=message):
        probe(path)
    path.write_bytes(head + packed[:200] + b"x" + packed[201:])
    with pytest.raises(BadInput, match="damaged"):
        probe(path)


UNREAD = {
    "MINC 1": b"CDF\1" + bytes(400),
    "HDF5 or MINC 2": b"\x89HDF\r\n\x1a\n" + bytes(400),
    "compressed by bzip2": bz2.compress(bytes(400)),
    "PAR/REC": b"# === DATA DESCRIPTION FILE ====\n",
}


@pytest.mark.parametrize("name", UNREAD)
def test_formats_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "v"
    path.write_bytes(UNREAD[name])
    with pytest.raises(UnsupportedFormat, match=name):
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
    with pytest.raises(BadInput, match=r"another file|several files|plainly"):
        probe(path)
