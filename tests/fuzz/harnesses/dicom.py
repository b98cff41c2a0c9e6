"""DICOM: detection, the header of a file, and which series its frames make."""

import io
import struct
from collections.abc import Iterable
from contextlib import closing, suppress

import numpy as np

from segserve.files.detect_format import detect_format
from segserve.files.dicom.read_header import HeaderCutShort, NotAnImage, read_header
from segserve.files.open_file import import_dicom
from segserve.types import FileLimits, FileOptions
from tests.files.dicom.sample_dicom import AXIAL, draw, encode, make_slice
from tests.files.dicom.sample_multi_frame import encode_csa_header, encode_enhanced, encode_mosaic
from tests.files.dicom_files import ENCAPSULATED_RLE, encode_dicom, encode_element, encode_fragments
from tests.fuzz.harnesses.harness import Harness, expect_refusals, write_scratch

LIMITS = FileLimits(max_mb=1, max_frame_pixels=1 << 16, max_voxels=1 << 16)


def read_dicom(data: bytes) -> None:
    """Read the headers, and group what they describe. Pixels are decoded by other libraries."""
    path = write_scratch("slice.dcm", data)
    with expect_refusals():
        detect_format(path)
    with expect_refusals(), suppress(NotAnImage, HeaderCutShort):
        assert read_header(io.BytesIO(data), 0, "slice.dcm").frames
    with expect_refusals(), closing(import_dicom().DicomFile(path, LIMITS, FileOptions())) as file:
        file.source_series()


def nested_element() -> bytes:
    """A private sequence of unknown length with one item."""
    out = struct.pack("<HH2sHI", 0x10, 0x1002, b"SQ", 0, 0xFFFFFFFF)
    out += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + encode_element(0x10, 0x20, b"LO", b"1 ")
    return out + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)


def dicom_seeds() -> Iterable[bytes]:
    yield encode_dicom(side=4)
    segment = bytes([15, *range(16)])  # PackBits: 16 literal bytes
    header = struct.pack("<16I", 2, 64, 64 + len(segment) + 1, *[0] * 13)
    frame = header + segment + b"\0" + segment + b"\0"
    yield encode_dicom(side=4, transfer_syntax=ENCAPSULATED_RLE, pixel_element=encode_fragments(b"", frame))
    yield encode_dicom(side=4, extra=encode_element(0x10, 0x10, b"PN", b"A^B"))
    yield encode_dicom(side=4, extra=nested_element())
    yield encode_dicom(side=4, transfer_syntax=b"1.2.840.10008.1.2.1.99")
    cine = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    yield encode(make_slice(cine, NumberOfFrames=3, FrameTime=40, WindowCenter=10, WindowWidth=20))
    slices = [draw(number) for number in range(4)]
    yield encode_enhanced([(pixels, (0, 0, 2 * number), {}) for number, pixels in enumerate(slices)])
    csa = encode_csa_header(2, NumberOfImagesInMosaic=["4"], SliceNormalVector=["0", "0", "1"])
    yield encode_mosaic(slices, AXIAL, (0, 0, 0), csa)
    yield encode(make_slice(np.zeros((4, 5, 3), np.uint8), RescaleSlope=2, RescaleIntercept=-5))


WORDS = (
    b"SQ",
    b"OB",
    b"UN",
    b"DS",
    b"\xfe\xff\0\xe0",
    b"\xff\xff\xff\xff",
    b"\\",
    b"NaN",
    b"1e999",
    b"-1",
    b"TILED",
)
HARNESSES = (Harness("dicom", read_dicom, dicom_seeds, WORDS),)
