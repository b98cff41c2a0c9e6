"""A zip of pictures is read in natural order; zip bombs and path traversal are refused."""

import io
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile

from segserve.errors import BadInput, TooLarge
from segserve.files.open_file import open_frames
from segserve.files.zip_archive import MAX_ENTRIES, BoundedZip
from segserve.types import FileKind, FileLimits, Size
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe


def test_a_zip_of_frames_in_natural_order(tmp_path: Path) -> None:
    entries = {f"a/{index}.png": sample_files.encode_frame(index) for index in range(12)}
    entries |= {"__MACOSX/a/1.png": b"x", "a/.hidden.png": b"x", "notes.txt": b"x"}
    path = sample_files.write_zip(tmp_path / "frames.zip", entries)
    assert (probe(path).kind, probe(path).count) == (FileKind.FRAMES, 12)
    frames = open_frames(path, "zip", LIMITS)
    for index in (0, 11, 2):
        assert np.array_equal(frames.read(index), sample_files.draw_frame(index))
    frames.close()


def test_pictures_of_several_sizes_are_not_frames(tmp_path: Path) -> None:
    entries = {
        "1.png": sample_files.encode_frame(0),
        "2.png": sample_files.encode_frame(1, 50),
        "3.png": b"broken",
    }
    path = sample_files.write_zip(tmp_path / "pictures.zip", entries)
    assert (probe(path).kind, probe(path).count) == (FileKind.PICTURES, 3)
    frames = open_frames(path, "zip", LIMITS)
    with pytest.raises(BadInput, match="Frame 1 is"):
        frames.read(1)
    frames.close()


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
    entries, error, message = HOSTILE[name]
    path = sample_files.write_zip(tmp_path / "x.zip", entries)
    with pytest.raises(error, match=message):
        probe(path)


def test_a_zip_that_understates_a_size_is_refused(tmp_path: Path) -> None:
    data = bytearray(
        sample_files.write_zip(tmp_path / "x.zip", {"1.png": sample_files.encode_frame(0)}).read_bytes()
    )
    directory = data.rindex(b"PK\1\2")
    data[directory + 24 : directory + 28] = (40).to_bytes(4, "little")  # the stated unpacked size
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadInput):
        probe(tmp_path / "x.zip")


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    path = sample_files.write_zip(
        tmp_path / "x.zip", {"1.png": sample_files.encode_frame(0)}, zipfile.ZIP_STORED
    )
    data = bytearray(path.read_bytes())
    data[6] |= 1  # "encrypted", in the entry's header and in the directory
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadInput):
        probe(path)


def test_entries_are_counted_before_objects_are_made_of_them(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(sample_files.make_zip_of_many_entries(MAX_ENTRIES + 1))
    with (
        mock.patch("zipfile.ZipInfo", side_effect=AssertionError),
        pytest.raises(TooLarge, match="100001 entries"),
    ):
        probe(path)
    path.write_bytes(sample_files.make_zip_of_many_entries(MAX_ENTRIES // 100))
    with BoundedZip(path) as archive:
        assert len(archive.infolist()) == MAX_ENTRIES // 100


def write_large_entry(path: Path, head: bytes, size_mb: int) -> Path:
    """Write a zip with one entry of `head`, noise that keeps the ratio below its limit, and zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        out.open("1.png", "w") as entry,
    ):
        entry.write(head + np.random.default_rng(0).bytes(size_mb * 1000))
        for _ in range(size_mb):
            entry.write(bytes(1 << 20))
    return path


LARGE_HEADS = {
    "a broken PNG": b"\x89PNG\r\n\x1a\n",
    "a PNG with one large chunk": sample_files.encode_frame(0)[:33] + struct.pack(">I4s", 190 << 20, b"iTXt"),
    "a PNG, then zeros": sample_files.encode_frame(0),
    "a WebP": sample_files.encode_webp(),
    "a BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 200 << 20, 0, 0, 54, 40, 9, 9, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", LARGE_HEADS)
def test_an_entry_is_not_unpacked_for_its_header(tmp_path: Path, name: str) -> None:
    path = write_large_entry(tmp_path / "x.zip", LARGE_HEADS[name], 200)
    limits = FileLimits(max_mb=1000, max_frame_pixels=1 << 20, max_voxels=1)
    tracemalloc.start()
    try:
        with suppress(BadInput):  # whether it is a picture is not the question
            assert probe(path, limits).count == 1
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_tiff_in_a_zip_is_read_from_disk(tmp_path: Path) -> None:
    picture = io.BytesIO()
    tifffile.imwrite(picture, np.zeros((1000, 1000, 3), np.uint8))
    path = sample_files.write_zip(
        tmp_path / "x.zip", {f"{index}.tif": picture.getvalue() for index in range(2)}
    )
    assert (probe(path).kind, probe(path).size) == (FileKind.FRAMES, Size(1000, 1000))
    assert open_frames(path, "zip", LIMITS).read(1).shape == (1000, 1000, 3)


def test_entries_without_names_or_in_unknown_codecs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for data in (sample_files.make_zip_without_name(), sample_files.make_zip_of_codec(99)):
        path.write_bytes(data)
        with pytest.raises(BadInput):
            probe(path)
