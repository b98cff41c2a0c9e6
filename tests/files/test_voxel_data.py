"""A volume whose file ends early is refused, with the byte that is missing; whole ones of all kinds are read."""

import gzip
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk

from segserve.errors import BadInput, TooLarge
from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_volume
from segserve.types import FileLimits
from tests.files.sample_files import LIMITS, probe

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
DTYPES = (np.uint8, np.int16, np.uint32, np.float32, np.float64)
VOXELS = bytes(range(24))


def encode_volume(folder: Path, suffix: str, *, compressed: bool, dtype: type = np.int16) -> bytes:
    path = folder / f"volume{suffix}"
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path), compressed)
    return path.read_bytes()


def nrrd(*lines: str, encoding: str = "raw", name: str = "uint8") -> bytes:
    head = ["NRRD0004", f"type: {name}", "dimension: 3", "sizes: 4 3 2", f"encoding: {encoding}", *lines]
    return "\n".join(head).encode() + b"\n\n"


def metaimage(*lines: str, name: str = "MET_UCHAR") -> bytes:
    head = ["ObjectType = Image", "NDims = 3", "DimSize = 4 3 2", *lines, f"ElementType = {name}"]
    return "\n".join([*head, "ElementDataFile = LOCAL"]).encode() + b"\n"


def nifti(side: int = 4, *, order: str = "<", offset: float = 352, datatype: int = 2) -> bytes:
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into(order + "hh", header, 70, datatype, 8)
    struct.pack_into(order + "8f", header, 76, *[1] * 8)
    struct.pack_into(order + "f", header, 108, offset)
    header[344:348] = b"n+1\0"
    return bytes(header)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_files_cut_anywhere_are_refused(tmp_path: Path, suffix: str, compressed: bool) -> None:
    data = encode_volume(tmp_path, suffix, compressed=compressed)
    path = tmp_path / "upload"
    path.write_bytes(data)
    assert probe(path).count == 5
    for length in (len(data) - 1, len(data) - 9, len(data) - 100, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput) as raised:
            probe(path)
        assert raised.value.field == "file"
    path.write_bytes(data + b"what comes after the voxels")
    assert probe(path).count == 5


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_damaged_streams_are_refused_before_itk_reads_them(tmp_path: Path, suffix: str) -> None:
    """ITK's reader of MetaImage waits for ever at some of these."""
    data = encode_volume(tmp_path, suffix, compressed=True)
    path = tmp_path / "upload"
    for at in range(max(60, len(data) - 200), len(data) - 5, 7):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"damaged|early"):
            probe(path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_types_are_read(tmp_path: Path, suffix: str, dtype: type) -> None:
    path = tmp_path / "upload"
    for compressed in (False, True):
        path.write_bytes(encode_volume(tmp_path, suffix, compressed=compressed, dtype=dtype))
        assert probe(path).count == 5


WHOLE = {
    "nrrd text": nrrd(encoding="ascii") + b" ".join(str(value).encode() for value in VOXELS),
    "nrrd hex": nrrd(encoding="hex") + VOXELS.hex().encode(),
    "nrrd last bytes": nrrd("byte skip: -1") + b"abc" + VOXELS,
    "nrrd skipped bytes": nrrd("byte skip: 3") + b"abc" + VOXELS,
    "nrrd skipped lines": nrrd("line skip: 2") + b"a\nb\n" + VOXELS,
    "nrrd gzip": nrrd(encoding="gz") + gzip.compress(VOXELS),
    "nrrd gzip in parts": nrrd(encoding="gzip") + gzip.compress(VOXELS[:9]) + gzip.compress(VOXELS[9:]),
    "nrrd gzip, skipped bytes": nrrd("byte skip: 3", encoding="gzip") + gzip.compress(b"abc" + VOXELS),
    "nrrd types": nrrd(name="unsigned char") + VOXELS,
    "nrrd key values": nrrd("encoding:=nonsense", "# sizes: 9 9 9") + VOXELS,
    "metaimage": metaimage() + VOXELS,
    "metaimage last bytes": metaimage("HeaderSize = -1") + b"abc" + VOXELS,
    "metaimage packed": metaimage("CompressedData = True", f"CompressedDataSize = {len(zlib.compress(VOXELS))}")
    + zlib.compress(VOXELS),
    "nifti": nifti() + bytes(64),
    "nifti big-endian": nifti(order=">") + bytes(64),
    "nifti after a gap": nifti(offset=400) + bytes(112),
    "nifti.gz in parts": gzip.compress(nifti() + bytes(10)) + gzip.compress(bytes(54)),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_of_all_kinds_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "upload"
    path.write_bytes(WHOLE[name])
    assert probe(path).count in (2, 4)
    with open_volume(path, detect_format(path), LIMITS) as volume:
        voxels = volume.voxels().tobytes()
    assert voxels in (VOXELS, bytes(64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (nifti(500, datatype=64), "byte 1 of 1000000000"),
        (nifti() + bytes(40), "byte 41 of 64"),
        (nifti(offset=400) + bytes(111), "byte 64 of 64"),
        (gzip.compress(nifti() + bytes(63)), "byte 64 of 64"),
        (gzip.compress(nifti() + bytes(64))[:-1], "last bytes"),
        (gzip.compress(nifti() + bytes(64))[:-8], "last bytes"),
        (nrrd(encoding="ascii") + b"1 2 3", "number 4 of 24"),
        (nrrd(encoding="hex") + b"010203", "byte 4 of 24"),
        (nrrd("byte skip: 3") + VOXELS, "byte 22 of 24"),
        (nrrd("line skip: 2") + VOXELS, "plainly"),
        (nrrd(encoding="gzip") + gzip.compress(VOXELS[:-2]), "byte 23 of 24"),
        (nrrd(encoding="gzip") + VOXELS, "damaged"),
        (nrrd(encoding="gzip") + zlib.compress(VOXELS), "damaged"),
        (metaimage() + VOXELS[:-1], "byte 24 of 24"),
        (metaimage("HeaderSize = -1") + VOXELS[:-1], "missing"),
        (metaimage("CompressedData = True") + zlib.compress(VOXELS)[:-1], "early"),
        (metaimage("CompressedData = True", "CompressedDataSize = 9") + zlib.compress(VOXELS), "early"),
        (metaimage("CompressedData = True", "CompressedDataSize = 99") + zlib.compress(VOXELS), "early"),
        (metaimage("CompressedData = True", "CompressedDataSize = 12") + zlib.compress(b"\1" * 20), "early|byte 21"),
        (metaimage("BinaryData = False") + b"1 2 3", "number 4 of 24"),
        (metaimage("DimSize = 1 1 1") + VOXELS, "plainly"),
    ],
)  # fmt: skip
def test_the_missing_byte_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "upload"
    path.write_bytes(data)
    limits = FileLimits(max_mb=20, max_frame_pixels=1 << 20, max_voxels=500**3)
    with pytest.raises(BadInput, match=message):
        probe(path, limits)


def packed_array(values: np.ndarray, *, chunk_bytes: int = 1 << 20, name: str | None = None) -> bytes:
    """As nninteractive-client packs it."""
    type_name = (name or values.dtype.name).encode()
    head = b"NNIA" + bytes([1, 1, values.ndim, len(type_name)]) + type_name
    head += struct.pack(f"<{values.ndim}q", *values.shape)
    data = values.tobytes()
    chunks = [data[begin : begin + chunk_bytes] for begin in range(0, len(data), chunk_bytes)]
    parts = [head, struct.pack("<I", len(chunks))]
    for chunk in chunks:
        packed = imagecodecs.blosc2_encode(chunk)
        parts += [struct.pack("<QQ", len(chunk), len(packed)), packed]
    return b"".join(parts)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint64, np.float32, np.float64])
def test_packed_arrays_are_read(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 99, (1, 5, 6, 7)).astype(dtype)
    path = tmp_path / "upload"
    path.write_bytes(packed_array(values, chunk_bytes=64) + b"more")
    assert detect_format(path) == "packed_array"
    assert probe(path).count == 5
    with open_volume(path, "packed_array", LIMITS) as volume:
        np.testing.assert_array_equal(volume.voxels(), values[0])


def test_packed_arrays_cut_anywhere_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
    data, path = packed_array(values, chunk_bytes=128), tmp_path / "upload"
    for length in (*range(4, 60), len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(BadInput):
            probe(path)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, struct.pack("<I", 1 << 31)),  # chunks
        (4, struct.pack("<Q", 1 << 40)),  # unpacked
        (4, struct.pack("<Q", 8)),
        (12, struct.pack("<Q", 1 << 40)),  # packed
        (24, struct.pack("<i", 1 << 30)),  # unpacked, in the chunk's own header
        (28, b"\xff" * 12),
        (52, b"\xff" * 40),
    ],
)
def test_packed_arrays_that_lie_are_refused(tmp_path: Path, at: int, value: bytes) -> None:
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
    data = bytearray(packed_array(values))
    begin = data.index(struct.pack("<I", 1), 4 + 4 + 5) + at
    data[begin : begin + len(value)] = value
    path = tmp_path / "upload"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        probe(path)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.zeros((2, 5, 6, 7), np.uint8), None),
        (np.zeros((5, 6), np.uint8), None),
        (np.zeros((5, 6, 7), np.float16), None),
        (np.zeros((5, 6, 7), np.complex64), None),
        (np.zeros((5, 6, 7), np.uint8), "object"),
    ],
)
def test_packed_arrays_of_another_kind_are_refused(tmp_path: Path, values: np.ndarray, name: str) -> None:
    path = tmp_path / "upload"
    path.write_bytes(packed_array(values, name=name))
    with pytest.raises(BadInput):
        probe(path)


def test_a_packed_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    head = b"NNIA" + bytes([1, 1, 3, 5]) + b"uint8" + struct.pack("<3q", 1 << 20, 1 << 20, 1 << 20)
    path = tmp_path / "upload"
    path.write_bytes(head + struct.pack("<I", 0))
    with pytest.raises(TooLarge):
        probe(path)
