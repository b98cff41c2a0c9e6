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
from PIL import Image

from segserve.errors import BadInput, TooLarge
from segserve.files.open_file import open_frames
from segserve.files.picture_archive import PictureArchive
from segserve.files.zip_archive import MAX_ENTRIES, BoundedZip
from segserve.types import FileKind, FileLimits, Size, UInt8
from tests.files import sample_files
from tests.files.sample_files import LIMITS, probe


def test_a_zip_of_frames_in_natural_order(tmp_path: Path) -> None:
    entries = {f"a/{index}.png": sample_files.encode_frame(index) for index in range(12)}
    entries |= {"__MACOSX/a/1.png": b"x", "a/.hidden.png": b"x", "notes.txt": b"x"}
    path = sample_files.write_zip(tmp_path / "frames.zip", entries)
    record = probe(path)
    assert (record.kind, record.count) == (FileKind.FRAMES, 12)
    assert [file.name for file in record.left_out.files] == ["notes.txt"], "what is hidden is not counted"
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
    record = probe(path)
    assert (record.kind, record.count, record.left_out.count) == (FileKind.PICTURES, 2, 1)
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
    with pytest.raises(BadInput, match="has a password"):
        probe(path)


def read_all(path: Path) -> list[UInt8]:
    """Return all frames of a zip, opened as a job does."""
    record = probe(path)
    frames = open_frames(path, record.format, LIMITS, record.options, record.frame_index)
    try:
        assert frames.count == record.count
        return [frames.read(index) for index in range(record.count)]
    finally:
        frames.close()


def save_cut(form: str) -> bytes:
    """Return a picture whose header is whole and whose pixels are not."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(out, form)
    return out.getvalue()[: len(out.getvalue()) * 2 // 3]


BAD_ENTRIES: dict[str, tuple[str, bytes, str]] = {
    "a note": ("a5.txt", b"hello", "in no image format"),
    "a note with the name of a picture": ("a5.png", b"hello", "in no image format"),
    "an empty file": ("a5.png", b"", "is empty"),
    "a cut PNG": ("a5.png", save_cut("PNG"), "damaged or cut short"),
    "a cut JPEG": ("a5.jpg", save_cut("JPEG"), "damaged or cut short"),
    "a path outside": ("../a5.png", sample_files.encode_frame(5), "outside itself"),
    "a bomb": ("a5.png", bytes(8_000_000), "states 8000000 bytes"),
    "a picture that is too large": ("a5.png", sample_files.encode_png(np.zeros((1100, 1000), np.uint8)), "1000"),
    "a video": ("a5.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "video"),
    "a zip": ("a5.zip", sample_files.make_zip_of_codec(0), "is a zip"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_one_bad_entry_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    bad_name, content, reason = BAD_ENTRIES[name]
    entries = {f"a{index}.png": sample_files.encode_frame(index) for index in (10, 2, 7)}
    path = sample_files.write_zip(tmp_path / "x.zip", entries | {bad_name: content})
    record = probe(path)
    assert (record.kind, record.count, record.left_out.count) == (FileKind.FRAMES, 3, 1)
    assert record.left_out.files[0].name == bad_name
    assert reason in record.left_out.files[0].reason
    for values, index in zip(read_all(path), (2, 7, 10), strict=True):
        assert np.array_equal(values, sample_files.draw_frame(index))


def test_a_damaged_entry_is_left_out(tmp_path: Path) -> None:
    entries = {f"a{index}.png": sample_files.encode_frame(index) for index in range(3)}
    path = sample_files.write_zip(tmp_path / "x.zip", entries, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"a1.png") + 80] ^= 0xFF
    path.write_bytes(data)
    assert [file.name for file in probe(path).left_out.files] == ["a1.png"]
    assert len(read_all(path)) == 2


def test_pictures_are_told_by_their_content(tmp_path: Path) -> None:
    entries = {"1": sample_files.encode_frame(1), "2.dat": sample_files.encode_frame(2)}
    path = sample_files.write_zip(tmp_path / "x.zip", entries)
    assert (probe(path).count, probe(path).left_out.count) == (2, 0)
    assert np.array_equal(read_all(path)[1], sample_files.draw_frame(2))


def test_pages_of_tiffs_that_are_not_taken_are_told(tmp_path: Path) -> None:
    several, one = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(several, np.zeros((5, 20, 30), np.uint8), photometric="minisblack")
    tifffile.imwrite(one, np.zeros((20, 30), np.uint8))
    path = sample_files.write_zip(tmp_path / "x.zip", {"a.tif": several.getvalue(), "b.tif": one.getvalue()})
    (content,) = probe(path).contents
    assert content.notes[0].startswith("Of 1 files only the first picture is taken: 'a.tif' has 5.")
    planes = io.BytesIO()
    tifffile.imwrite(planes, np.zeros((4, 20, 30), np.uint8), photometric="minisblack", truncate=True)
    path = sample_files.write_zip(tmp_path / "z.zip", {"b.tif": one.getvalue(), "c.tif": planes.getvalue()})
    assert "'c.tif' has 4." in probe(path).contents[0].notes[0], "planes behind one directory"
    deep = io.BytesIO()
    tifffile.imwrite(deep, np.zeros((4, 20, 30), np.uint8), photometric="minisblack", volumetric=True)
    path = sample_files.write_zip(tmp_path / "w.zip", {"b.tif": one.getvalue(), "c.tif": deep.getvalue()})
    assert [file.name for file in probe(path).left_out.files] == ["c.tif"], "a page with depth is not read"
    path = sample_files.write_zip(tmp_path / "y.zip", {"b.tif": one.getvalue()})
    assert probe(path).contents == ()


def test_what_a_batch_reads_has_the_names_of_pictures_too(tmp_path: Path) -> None:
    """A picture that cannot be read fails alone, with its name."""
    entries = {"1.png": sample_files.encode_frame(1), "2.png": b"broken", "notes.txt": b"x", "3.dat": b"x"}
    path = sample_files.write_zip(tmp_path / "x.zip", entries)
    index = probe(path).frame_index
    archive = PictureArchive(path, 20, 1 << 20, index.left_out_entries, has_named=True)
    assert archive.names == ["1.png", "2.png"]
    archive.close()


# Python writes UTF-8 and says so. Here the flag is taken away, and the name is in another encoding.
NAMES = {
    "GBK": ("gbk", ["\u56fe\u72470.png", "\u56fe\u72471.png"], None),
    "GBK that is UTF-8 by chance": ("gbk", ["\u56fe\u7247.png"], None),
    "Shift JIS": ("cp932", ["\u5199\u771f0.png", "\u3055\u304f\u3089.png"], None),
    "UTF-8": ("utf-8", ["\u7167\u7247.png", "Gr\u00fcn.png", "\u043a\u0430\u043d.png"], None),
    "code page 437": ("cp437", ["Gr\u00f6\u00dfe.png"], None),
    "Korean": ("cp949", ["\uc0ac\uc9c41.png", "\uc0ac\uc9c42.png"], "cp437"),
    "Russian": ("cp866", ["\u043a\u043b\u0435\u0442\u043a\u0438.png"], "cp437"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_in_other_encodings_are_distinct_and_can_be_had_back(tmp_path: Path, case: str) -> None:
    encoding, names, shown_in = NAMES[case]
    raw_names = [name.encode(encoding) for name in names]
    placeholders = [bytes([65 + number]) * len(raw) for number, raw in enumerate(raw_names)]
    entries = {name.decode(): sample_files.encode_frame(number) for number, name in enumerate(placeholders)}
    data = sample_files.write_zip(tmp_path / "x.zip", entries, zipfile.ZIP_STORED).read_bytes()
    for placeholder, raw in zip(placeholders, raw_names, strict=True):
        data = data.replace(placeholder, raw)
    (tmp_path / "x.zip").write_bytes(data)
    archive = PictureArchive(tmp_path / "x.zip", 20, 1 << 20)
    assert sorted(archive.names) == sorted(raw.decode(shown_in or encoding) for raw in raw_names)
    assert len(set(archive.names)) == len(names)
    archive.close()


def test_names_that_are_not_the_utf_8_that_they_claim_to_be(tmp_path: Path) -> None:
    names = ["A" * 6 + ".png", "Gr\u00fcn.png"]
    entries = {name: sample_files.encode_frame(number) for number, name in enumerate(names)}
    data = bytearray(sample_files.write_zip(tmp_path / "x.zip", entries, zipfile.ZIP_STORED).read_bytes())
    raw = b"Gr\xfc\xdfen.png"
    assert len(raw) == len(names[0])
    at = -1
    while (at := data.find(names[0].encode(), at + 1)) >= 0:
        data[at : at + len(raw)] = raw
        is_local = data[at - 30 : at - 26] == b"PK\3\4"
        flags_at = at - 30 + 6 if is_local else at - 46 + 8
        struct.pack_into("<H", data, flags_at, 0x800)
    (tmp_path / "x.zip").write_bytes(bytes(data))
    with pytest.raises(UnicodeDecodeError):
        zipfile.ZipFile(tmp_path / "x.zip")
    record = probe(tmp_path / "x.zip")
    assert record.count == 2, record.left_out
    assert record.contents[0].notes == ("1 names are not UTF-8, as the zip says: they may look wrong.",)
    archive = PictureArchive(tmp_path / "x.zip", 20, 1 << 20)
    assert sorted(archive.names) == sorted(["Gr\u00fcn.png", raw.decode("cp437")])
    archive.close()
    frames = open_frames(tmp_path / "x.zip", "zip", LIMITS, record.options, record.frame_index)
    assert {int(frames.read(index)[0, 0, 0]) for index in range(2)} == {20, 23}
    frames.close()


def test_the_reader_of_many_entries_is_linear(tmp_path: Path) -> None:
    """Thousands of pictures, and thousands of others between them, take no more than they must."""
    picture = sample_files.encode_frame(0, 8, 8)
    entries = {
        f"{index}.{'txt' if index % 2 else 'png'}": b"x" if index % 2 else picture for index in range(4000)
    }
    path = sample_files.write_zip(tmp_path / "x.zip", entries, zipfile.ZIP_STORED)
    record = probe(path)
    assert (record.count, record.left_out.count, len(record.left_out.files)) == (2000, 2000, 20)
    frames = open_frames(path, "zip", LIMITS, record.options, record.frame_index)
    assert np.array_equal(frames.read(1999), sample_files.draw_frame(0, 8, 8))
    frames.close()


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
def test_an_entry_is_not_unpacked_into_memory(tmp_path: Path, name: str) -> None:
    path = write_large_entry(tmp_path / "x.zip", LARGE_HEADS[name], 200)
    limits = FileLimits(max_mb=1000, max_frame_pixels=1 << 20, max_voxels=1)
    tracemalloc.start()
    try:
        with suppress(BadInput, TooLarge):  # whether it is a picture is not the question
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
