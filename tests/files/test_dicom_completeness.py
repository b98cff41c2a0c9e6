"""DICOM files that hold fewer pixels than they state are refused; whole ones of all kinds are read."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from segserve.errors import BadInput
from segserve.files.dicom_completeness import MAX_DEPTH, check_dicom_complete
from segserve.files.open_file import open_volume
from tests.files import sample_files
from tests.files.dicom_files import (
    ENCAPSULATED_RLE,
    JPEG_LOSSLESS,
    encode_dicom,
    encode_element,
    encode_fragments,
)
from tests.files.sample_files import LIMITS

PIXELS = np.random.default_rng(0).integers(0, 9000, (16, 16)).astype("<u2")


def encode_rle(pixels: np.ndarray, *, segments: int | None = None, cut: int = 0) -> bytes:
    """A frame of RLE: the high bytes of all pixels, then the low bytes. cut: bytes left away of the last segment."""
    planes = [imagecodecs.packbits_encode((pixels >> shift).astype(np.uint8).tobytes()) for shift in (8, 0)]
    planes = [plane + b"\0" * (len(plane) % 2) for plane in planes]
    offsets = [64, 64 + len(planes[0])]
    header = struct.pack("<16I", len(planes) if segments is None else segments, *offsets, *[0] * 13)
    frame = header + b"".join(planes)
    return frame[: len(frame) - cut]


def rle_dicom(frame: bytes, z: int = 0) -> bytes:
    return encode_dicom(transfer_syntax=ENCAPSULATED_RLE, z=z, pixel_element=encode_fragments(b"", frame))


def sequence(depth: int, *, item_length: int = 0xFFFFFFFF) -> bytes:
    """Sequences within sequences, all of unknown length and closed."""
    opening = struct.pack("<HH2sHIHHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, item_length)
    closing = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * depth + encode_element(8, 0x1150, b"UI", b"1.2") + closing * depth


WHOLE = {
    "plain": encode_dicom(pixels=PIXELS.tobytes()),
    "RLE": rle_dicom(encode_rle(PIXELS)),
    "a sequence": encode_dicom(pixels=PIXELS.tobytes(), extra=sequence(1)),
    "some sequences in sequences": encode_dicom(pixels=PIXELS.tobytes(), extra=sequence(5)),
    "a picture within a sequence": encode_dicom(
        pixels=PIXELS.tobytes(),
        extra=encode_element(8, 0x1140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 14)
                             + encode_element(0x7FE0, 0x10, b"OW", b"ab")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(WHOLE[name])
    check_dicom_complete(path)
    archive = sample_files.write_zip(tmp_path / "series.zip", {"1.dcm": WHOLE[name]})
    with open_volume(archive, "dicom", LIMITS) as volume:
        assert np.array_equal(volume.voxels()[0], PIXELS)


def test_files_that_a_library_writes_are_whole(tmp_path: Path) -> None:
    for name, data in sample_files.write_dicom_series(tmp_path / "d", 2).items():
        path = tmp_path / name
        path.write_bytes(data)
        check_dicom_complete(path)
        for length in (len(data) - 1, len(data) - 100, 140, 100):
            path.write_bytes(data[:length])
            with pytest.raises(BadInput):
                check_dicom_complete(path)


BROKEN = {
    "no pixels": encode_dicom(pixels=b""),
    "one byte less": encode_dicom(pixels=PIXELS.tobytes()[:-2]),
    "no pixel data": encode_dicom(pixel_element=b""),
    "RLE without segments": rle_dicom(struct.pack("<16I", 0, *[0] * 15) + b"ab"),
    "RLE of too many segments": rle_dicom(encode_rle(PIXELS, segments=15)),
    "RLE of one segment": rle_dicom(encode_rle(PIXELS, segments=1)),
    "RLE cut short": rle_dicom(encode_rle(PIXELS, cut=40)),
    "RLE whose offsets lie": rle_dicom(struct.pack("<16I", 2, 64, 0xFFFFFFFF, *[0] * 13) + b"ab"),
    "no fragments": encode_dicom(transfer_syntax=JPEG_LOSSLESS, pixel_element=encode_fragments()),
    "an empty fragment": encode_dicom(transfer_syntax=JPEG_LOSSLESS, pixel_element=encode_fragments(b"", b"")),
    "fragments without an end": encode_dicom(
        transfer_syntax=JPEG_LOSSLESS, pixel_element=encode_fragments(b"", b"ab", end=False)
    ),
    "deep sequences": encode_dicom(extra=sequence(20_000)),
    "sequences just over the limit": encode_dicom(extra=sequence(MAX_DEPTH + 1)),
    "an element beyond the end": encode_dicom(extra=struct.pack("<HH2sHI", 9, 0x10, b"OB", 0, 0xFFFFFFF0)),
    "empty": b"",
    "nonsense": b"x" * 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(BROKEN[name])
    with pytest.raises(BadInput) as raised:
        check_dicom_complete(path)
    assert (raised.value.field, bool(raised.value.remedy)) == ("file", True)
