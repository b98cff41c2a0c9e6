"""Volumes in a zip: pairs of a header and its voxels, whole files, several volumes; nothing outside the zip is read."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segserve.errors import BadInput, TooLarge
from segserve.files.open_file import open_volume
from segserve.files.volume_geometry import RAS_TO_LPS
from segserve.types import FileKind, FileLimits, FileOptions, Size
from tests.files.sample_files import LIMITS, encode_frame, probe, write_zip

VALUES = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)  # x, y, z
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.75, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]])
VOXELS = VALUES.T.tobytes()
NHDR = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nencoding: raw\ndata file: %b\n"
MHD = b"NDims = 3\nDimSize = 7 6 5\nElementType = MET_SHORT\nElementDataFile = %b\n"


def encode_pair(folder: Path, image_class: type, values: np.ndarray = VALUES) -> dict[str, bytes]:
    image_class(values, AFFINE).to_filename(folder / "brain.hdr")
    names = ["brain.hdr", "brain.img", *(["brain.mat"] if (folder / "brain.mat").exists() else [])]
    return {name: (folder / name).read_bytes() for name in names}


def read(path: Path, options: FileOptions = FileOptions()) -> np.ndarray:
    record = probe(path, options=options)
    with open_volume(path, record.format, LIMITS, options) as volume:
        return volume.voxels()


@pytest.mark.parametrize(
    "image_class", [nib.Nifti1Pair, nib.Nifti2Pair, nib.AnalyzeImage, nib.Spm2AnalyzeImage]
)
@pytest.mark.parametrize("packed", [False, True])
def test_pairs_are_read_as_by_nibabel(tmp_path: Path, image_class: type, packed: bool) -> None:
    entries = encode_pair(tmp_path, image_class)
    expected = nib.load(tmp_path / "brain.hdr")
    if packed:
        entries = {
            name if name.endswith(".mat") else f"{name}.gz": gzip.compress(data)
            if name[-4:] != ".mat"
            else data
            for name, data in entries.items()
        }
    path = write_zip(tmp_path / "upload", {f"study/{name}": data for name, data in entries.items()})
    record = probe(path)
    assert (record.kind, record.format, record.count, record.size) == (
        FileKind.VOLUME,
        "volume_zip",
        5,
        Size(6, 7),
    )
    with open_volume(path, "volume_zip", LIMITS) as volume:
        assert np.array_equal(volume.voxels(), np.asarray(expected.dataobj).T)
        assert np.allclose(volume.geometry.affine, RAS_TO_LPS @ expected.affine)
    is_unplaced = image_class is nib.AnalyzeImage
    assert ("which side is left" in "".join(record.contents[0].notes)) == is_unplaced


@pytest.mark.parametrize(
    ("name", "header", "data_name", "data"),
    [
        ("a.nhdr", NHDR % b"a.raw", "a.raw", VOXELS),
        ("d/a.nhdr", NHDR % b"./a.raw", "d/a.raw", VOXELS),
        ("d/a.nhdr", NHDR % b"../e/a.raw", "e/a.raw", VOXELS),
        ("a.nhdr", NHDR.replace(b"raw\n", b"gzip\n") % b"a.raw.gz", "a.raw.gz", gzip.compress(VOXELS)),
        ("A.MHD", MHD % b"a.RAW", "a.raw", VOXELS),
        ("a.mhd", (b"CompressedData = True\n" + MHD) % b"a.zraw", "a.zraw", zlib.compress(VOXELS)),
    ],
)
def test_detached_headers_are_read_with_their_voxels(
    tmp_path: Path, name: str, header: bytes, data_name: str, data: bytes
) -> None:
    path = write_zip(tmp_path / "upload", {name: header, data_name: data, "readme.txt": b"x"})
    assert np.array_equal(read(path), VALUES.T)
    left_out = probe(path).left_out
    assert (left_out.count, left_out.files[0].name) == (1, "readme.txt")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nhdr", NHDR % b"/etc/passwd"),
        ("a.nhdr", NHDR % b"../../../etc/passwd"),
        ("a.mhd", MHD % b"/etc/passwd"),
        ("a.mhd", MHD % b"LIST"),
        ("a.mhd", MHD % b"a%03d.raw 1 5 1"),
        ("a.nhdr", NHDR % b"a%03d.raw 1 5 1"),
        ("a.hdr", bytes(348)),
    ],
)
def test_what_is_not_in_the_zip_is_not_read(tmp_path: Path, name: str, header: bytes) -> None:
    path = write_zip(tmp_path / "upload", {name: header, "etc.raw": VOXELS})
    with pytest.raises(BadInput, match="No volume in the zip can be read"):
        probe(path)


def test_voxels_that_end_early_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "upload", {"a.nhdr": NHDR % b"a.raw", "a.raw": VOXELS[:-1]})
    with pytest.raises(BadInput, match="byte 420 of 420"):
        probe(path)


def test_of_several_volumes_the_largest_is_taken_and_others_can_be_chosen(tmp_path: Path) -> None:
    small = VALUES[:, :, :2].copy()
    nib.Nifti1Image(small, AFFINE).to_filename(tmp_path / "a.nii.gz")
    entries = {
        "p/t10.nii.gz": (tmp_path / "a.nii.gz").read_bytes(),
        "p/t9.mhd": MHD % b"t9.raw",
        "p/t9.raw": VOXELS,
        "p/broken.nrrd": b"NRRD0004\nno header",
        "__MACOSX/p/t9.mhd": b"x",
    }
    path = write_zip(tmp_path / "upload", entries)
    record = probe(path)
    assert [(content.series, content.taken_time) for content in record.contents] == [
        ("p/t9.mhd", 0),
        ("p/t10.nii.gz", None),
    ]
    assert record.count == 5
    assert [file.name for file in record.left_out.files] == ["p/broken.nrrd"]
    assert np.array_equal(read(path, FileOptions(series="p/t10.nii.gz")), small.T)
    assert np.array_equal(read(path, FileOptions(series="1")), small.T)
    with pytest.raises(BadInput, match="no series 'x'"):
        probe(path, options=FileOptions(series="x"))


def test_points_in_time_of_a_pair(tmp_path: Path) -> None:
    values = np.stack([VALUES, VALUES + 500], axis=3)
    path = write_zip(tmp_path / "upload", encode_pair(tmp_path, nib.Nifti1Pair, values))
    assert probe(path).contents[0].times == 2
    assert np.array_equal(read(path, FileOptions(time=1)), VALUES.T + 500)


def test_pictures_beside_a_volume_make_it_a_zip_of_pictures(tmp_path: Path) -> None:
    entries = {"1.png": encode_frame(0), "2.png": encode_frame(1), "a.nhdr": NHDR % b"a.raw", "a.raw": VOXELS}
    assert probe(write_zip(tmp_path / "upload", entries)).kind is FileKind.FRAMES


def test_bombs_and_too_large_volumes_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "upload", {"a.nhdr": NHDR % b"a.raw", "a.raw": bytes(12 << 20)})
    with pytest.raises(TooLarge, match="packed to"):
        probe(path)
    path = write_zip(tmp_path / "upload", {"a.nhdr": NHDR % b"a.raw", "a.raw": VOXELS})
    with pytest.raises(TooLarge, match="210 voxels"):
        probe(path, FileLimits(20, 1 << 20, 200))


def test_a_lone_header_says_that_its_voxels_are_missing(tmp_path: Path) -> None:
    for image_class, message in ((nib.Nifti1Pair, "another file"), (nib.AnalyzeImage, "Analyze")):
        path = tmp_path / "upload"
        path.write_bytes(encode_pair(tmp_path, image_class)["brain.hdr"])
        with pytest.raises(BadInput, match=message) as raised:
            probe(path)
        assert "zip" in raised.value.remedy
