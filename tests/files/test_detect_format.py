"""What files are found to be, what their frames are, and what is refused."""

import gzip
import locale
import zipfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_frames, open_volume
from segserve.files.probe_file import probe_file
from segserve.files.zip_archive import MAX_ENTRIES, BoundedZip
from segserve.types import FileKind, FileLimits, FileRecord, Size
from tests.files import sample_files

LIMITS = FileLimits(mb=20, pixels=1 << 20, voxels=1 << 20)
LOSSY = 40  # levels that a codec or a palette may change a flat square by


def found(path: Path, limits: FileLimits = LIMITS) -> FileRecord:
    return probe_file(path, "0" * 64, limits)


@pytest.mark.parametrize("suffix", sorted(sample_files.CODECS))
def test_frames_of_a_video_in_any_order(tmp_path: Path, suffix: str) -> None:
    path = sample_files.write_video(tmp_path / f"clip.{suffix}")
    record = found(path)
    assert (record.kind, record.count, record.size) == (FileKind.VIDEO, 20, Size(48, 64))
    assert record.fps == pytest.approx(10, rel=0.01)
    frames = open_frames(path, detect_format(path), LIMITS)
    in_order = [frames.read(index) for index in range(20)]
    for index, values in enumerate(in_order):
        assert abs(int(values[40, 2].mean()) - int(sample_files.draw_frame(index)[40, 2, 0])) <= LOSSY
        assert abs(int(values[20, 2 * index + 8].mean()) - 220) <= LOSSY
    for index in (19, 0, 7, 6, 18, 3, 3, 12, *reversed(range(20)), 1, 0, 19):
        assert np.array_equal(frames.read(index), in_order[index])
    frames.close()


def test_a_truncated_video_is_refused(tmp_path: Path) -> None:
    for suffix in ("mp4", "avi"):
        data = sample_files.write_video(tmp_path / f"clip.{suffix}", 60).read_bytes()
        for share in (0.3, 0.7):
            path = tmp_path / "cut"
            path.write_bytes(data[: int(share * len(data))])
            with suppress(BadInput):  # some containers can be read up to where they are cut
                assert found(path).count < 60


def test_a_file_without_pictures_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no video in it"):
        found(sample_files.write_sound(tmp_path / "sound.mp4"))


def test_formats_that_name_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(sample_files.encode_frame(0))
    for name, text in {
        "list.m3u8": "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "list.ffconcat": "ffconcat version 1.0\nfile 'secret.png'\n",
        "list.sdp": "v=0\nm=video 0 RTP/AVP 96\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(UnsupportedFormat):
            found(path)


def test_a_zip_of_frames_in_natural_order(tmp_path: Path) -> None:
    entries = {f"a/{index}.png": sample_files.encode_frame(index) for index in range(12)}
    entries |= {"__MACOSX/a/1.png": b"x", "a/.hidden.png": b"x", "notes.txt": b"x"}
    path = sample_files.write_zip(tmp_path / "frames.zip", entries)
    assert (found(path).kind, found(path).count) == (FileKind.FRAMES, 12)
    frames = open_frames(path, "zip", LIMITS)
    for index in (0, 11, 2):
        assert np.array_equal(frames.read(index), sample_files.draw_frame(index))
    frames.close()


def test_pictures_of_several_sizes_are_no_frames(tmp_path: Path) -> None:
    entries = {
        "1.png": sample_files.encode_frame(0),
        "2.png": sample_files.encode_frame(1, 50),
        "3.png": b"broken",
    }
    path = sample_files.write_zip(tmp_path / "pictures.zip", entries)
    assert (found(path).kind, found(path).count) == (FileKind.PICTURES, 3)
    frames = open_frames(path, "zip", LIMITS)
    with pytest.raises(BadInput, match="Frame 1 is"):
        frames.read(1)
    frames.close()


def test_a_stack_of_deep_pages_is_scaled_as_one(tmp_path: Path) -> None:
    values = (
        np.arange(8)[:, None, None] * 1000 + np.arange(40)[None, None] * 10 + np.zeros((8, 30, 40))
    ).astype(np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, photometric="minisblack")
    record = found(path)
    assert (record.kind, record.count, record.size) == (FileKind.FRAMES, 8, Size(30, 40))
    frames = open_frames(path, "tiff", LIMITS)
    expected = np.rint(values / values.max() * 255)
    for index in (7, 0, 4):
        assert np.abs(frames.read(index)[:, :, 0] - expected[index]).max() <= 1
    frames.close()


def test_channels_in_pages_of_their_own_are_one_frame(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (5, 2, 30, 40), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "TCYX"})
    assert found(path).count == 5


def test_a_tiff_that_goes_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 8), np.uint8), photometric="minisblack", byteorder="<")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[2].offset
    data = bytearray(path.read_bytes())
    entries = int.from_bytes(data[last : last + 2], "little")
    at = last + 2 + 12 * entries
    data[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadInput):
        found(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_volumes_keep_their_geometry(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"volume{suffix}"
    sitk.WriteImage(sample_files.make_volume(), str(path))
    renamed = path.rename(tmp_path / "upload")
    record = found(renamed)
    assert (record.kind, record.count, record.size) == (FileKind.VOLUME, 6, Size(20, 30))
    assert record.spacing == pytest.approx((2.0, 0.75, 0.5))
    with open_volume(renamed, record.format, LIMITS) as volume:
        assert np.array_equal(volume.voxels(), sitk.GetArrayFromImage(sample_files.make_volume()))
        assert volume.geometry.origin == pytest.approx((-10, 5, 100))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["upload"]


def test_one_point_in_time_is_a_volume_and_several_are_not(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    sitk.WriteImage(sitk.JoinSeries([sample_files.make_volume()]), str(path))
    assert found(path).count == 6
    sitk.WriteImage(sitk.JoinSeries([sample_files.make_volume(), sample_files.make_volume()]), str(path))
    with pytest.raises(BadInput, match="4 axes"):
        found(path)


def test_a_zip_of_a_dicom_series(tmp_path: Path) -> None:
    entries = sample_files.write_dicom_series(tmp_path / "d", 5) | sample_files.write_dicom_series(
        tmp_path / "d", 3, "2"
    )
    path = sample_files.write_zip(
        tmp_path / "series.zip", {f"study/{name}": data for name, data in entries.items()}
    )
    record = found(path)
    assert (record.kind, record.format, record.count) == (FileKind.VOLUME, "dicom", 5)
    with open_volume(path, "dicom", LIMITS) as volume:
        assert np.array_equal(volume.voxels(), sitk.GetArrayFromImage(sample_files.make_volume(5)))


def test_a_series_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = sample_files.write_zip(tmp_path / "series.zip", sample_files.write_dicom_series(tmp_path / "d", 5))
    with pytest.raises(TooLarge, match="over 1000 voxels"):
        found(path, FileLimits(20, 1 << 20, 1000))
    assert locale.getencoding().upper() == "UTF-8", "GDCM sets another"


def test_an_unreadable_dicom_is_refused(tmp_path: Path) -> None:
    path = sample_files.write_zip(tmp_path / "x.zip", {"1.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 500})
    with pytest.raises(BadInput):
        found(path)


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
        found(path)


HOSTILE = {
    "traversal": ({"../../etc/x.png": b"x"}, BadInput, "outside itself"),
    "absolute": ({"/etc/x.png": b"x"}, BadInput, "outside itself"),
    "windows": ({"..\\..\\x.png": b"x"}, BadInput, "outside itself"),
    "bomb": ({"x.png": b"\0" * 12_000_000}, TooLarge, "states"),
    "unpacked": ({f"{i}.png": np.random.default_rng(i).bytes(3_000_000) for i in range(8)}, TooLarge, "24 MB"),
    "nothing": ({"readme.txt": b"x"}, BadInput, "no pictures"),
    "unreadable": ({"1.png": b"x", "2.png": b"y"}, BadInput, "None of the pictures"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, name: str) -> None:
    entries, error, said = HOSTILE[name]
    if name == "bomb":
        entries = {"x.png": b"\0" * 12_000_000}
    path = sample_files.write_zip(tmp_path / "x.zip", entries)
    with pytest.raises(error, match=said):
        found(path)


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    data = bytearray(
        sample_files.write_zip(tmp_path / "x.zip", {"1.png": sample_files.encode_frame(0)}).read_bytes()
    )
    directory = data.rindex(b"PK\1\2")
    data[directory + 24 : directory + 28] = (40).to_bytes(4, "little")  # the stated size, unpacked
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadInput):
        found(tmp_path / "x.zip")


def test_pictures_that_are_too_large_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = sample_files.write_zip(
        tmp_path / "x.zip", {"1.png": sample_files.encode_png(np.zeros((1100, 1000, 3), np.uint8))}
    )
    with pytest.raises(TooLarge):
        found(path)
    with pytest.raises(TooLarge, match="64 x 48"):
        found(sample_files.write_video(tmp_path / "clip.mp4"), FileLimits(20, 1000, 1))
    sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nii"))
    with pytest.raises(TooLarge, match="3600 voxels"):
        found(tmp_path / "v.nii", FileLimits(20, 1000, 1000))


@pytest.mark.parametrize(
    "data", [b"", b"hello", gzip.compress(b"hello"), b"PK\3\4garbage", b"GIF89a", b"\0" * 400]
)
def test_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        found(path)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    path = sample_files.write_zip(
        tmp_path / "x.zip", {"1.png": sample_files.encode_frame(0)}, zipfile.ZIP_STORED
    )
    data = bytearray(path.read_bytes())
    data[6] |= 1  # "encrypted", in the entry's header and in the directory
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadInput):
        found(path)


def test_entries_are_counted_before_they_are_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(sample_files.make_zip_of_many_entries(MAX_ENTRIES + 1))
    with (
        mock.patch("zipfile.ZipInfo", side_effect=AssertionError),
        pytest.raises(TooLarge, match="100001 entries"),
    ):
        found(path)
    path.write_bytes(sample_files.make_zip_of_many_entries(MAX_ENTRIES // 100))
    with BoundedZip(path) as archive:
        assert len(archive.infolist()) == MAX_ENTRIES // 100
