"""Volumes: detection of the format, and NIfTI, NRRD, MetaImage, MGH and zips of them, from the header to the voxels."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial

from segserve.files.detect_format import detect_format
from segserve.files.open_file import open_volume
from segserve.types import FileLimits
from tests.fuzz.harnesses.harness import Harness, expect_refusals, write_scratch

SHAPE = (4, 3, 2)  # columns, rows, slices
VALUES = 4 * 3 * 2
VOXELS = bytes(range(2 * VALUES))
LIMITS = FileLimits(max_mb=1, max_frame_pixels=1 << 16, max_voxels=1 << 16)


def check_volume(file_format: str, data: bytes) -> None:
    path = write_scratch("volume", data)
    with expect_refusals():
        detect_format(path)
    with expect_refusals(), open_volume(path, file_format, LIMITS) as volume:
        volume.check_complete()
        volume.voxels()


def check_packed_nifti(data: bytes) -> None:
    """Pack the mutated volume: a mutated gzip stream would rarely unpack."""
    check_volume("nifti.gz", gzip.compress(data, 1, mtime=0))
    check_volume("nifti.gz", data)


def encode_nifti(order: str = "<", datatype: int = 4) -> bytes:
    head = bytearray(352)
    struct.pack_into(order + "i", head, 0, 348)
    struct.pack_into(order + "8h", head, 40, 3, *SHAPE, 1, 1, 1, 1)
    struct.pack_into(order + "hh", head, 70, datatype, 16)
    struct.pack_into(order + "8f", head, 76, 1, 0.5, 0.75, 2, 0, 0, 0, 0)
    struct.pack_into(order + "f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head) + VOXELS


def encode_nifti_2() -> bytes:
    head = bytearray(544)
    struct.pack_into("<i8shh", head, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16)
    struct.pack_into("<8q", head, 16, 3, *SHAPE, 1, 1, 1, 1)
    struct.pack_into("<8d", head, 104, 1, 0.5, 0.75, 2, 0, 0, 0, 0)
    struct.pack_into("<q", head, 168, 544)
    return bytes(head) + VOXELS


def nifti_seeds() -> Iterable[bytes]:
    yield encode_nifti()
    yield encode_nifti(">")
    yield encode_nifti_2()


def encode_nrrd(encoding: str, voxels: bytes, more: str = "") -> bytes:
    head = (
        "NRRD0004\n# comment\ntype: short\ndimension: 3\nsizes: 4 3 2\nspace: left-posterior-superior\n"
        f"space directions: (0.5,0,0) (0,0.75,0) (0,0,2)\nendian: little\nencoding: {encoding}\n{more}\n"
    )
    return head.encode() + voxels


def nrrd_seeds() -> Iterable[bytes]:
    yield encode_nrrd("raw", VOXELS)
    yield encode_nrrd("raw", b"skipped" + VOXELS, "byte skip: 7\n")
    yield encode_nrrd("raw", VOXELS, "line skip: 0\nbyte skip: -1\n")
    yield encode_nrrd("gzip", gzip.compress(VOXELS, 1, mtime=0))
    yield encode_nrrd("ascii", b" ".join(b"%d" % value for value in range(VALUES)))
    yield encode_nrrd("hex", VOXELS.hex().encode())
    yield encode_nrrd("raw", VOXELS).replace(b"\n", b"\r\n")


def encode_metaimage(voxels: bytes, more: str = "") -> bytes:
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nOffset = 0 0 0\n"
        f"ElementSpacing = 0.5 0.75 2\nDimSize = 4 3 2\n{more}ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return head.encode() + voxels


def metaimage_seeds() -> Iterable[bytes]:
    yield encode_metaimage(VOXELS)
    packed = zlib.compress(VOXELS)
    yield encode_metaimage(packed, f"CompressedData = True\nCompressedDataSize = {len(packed)}\n")
    yield encode_metaimage(VOXELS * 2, "ElementNumberOfChannels = 2\n")


def encode_mgh() -> bytes:
    head = bytearray(284)
    struct.pack_into(
        ">7ih15f", head, 0, 1, *SHAPE, 1, 4, 0, 1, 0.5, 0.75, 2, *(1, 0, 0, 0, 1, 0, 0, 0, 1), 7, 8, 9
    )
    return bytes(head) + VOXELS


def mgh_seeds() -> Iterable[bytes]:
    yield encode_mgh()


def volume_zip_seeds() -> Iterable[bytes]:
    """Zips that store their entries: a mutated deflate stream would rarely unpack."""
    pair = encode_nifti()[:348].replace(b"n+1\0", b"ni1\0")
    nrrd = encode_nrrd("raw", b"", "data file: a.raw\n")
    metaimage = encode_metaimage(b"").replace(b"LOCAL", b"a.raw")
    for entries in ({"a.hdr": pair, "a.img": VOXELS}, {"a.nhdr": nrrd, "a.raw": VOXELS, "b.mhd": metaimage}):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in entries.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        yield out.getvalue()


NRRD_WORDS = (
    b"byte skip: ",
    b"line skip: ",
    b"encoding: ",
    b"data file: ",
    b"sizes: ",
    b"type: ",
    b"\r\n\r\n",
)
METAIMAGE_WORDS = (b"HeaderSize = ", b"CompressedDataSize = ", b"ElementDataFile = ", b"DimSize = ", b"LOCAL")
HARNESSES = (
    Harness("nifti", partial(check_volume, "nifti"), nifti_seeds),
    Harness("nifti_gz", check_packed_nifti, nifti_seeds),
    Harness("nrrd", partial(check_volume, "nrrd"), nrrd_seeds, NRRD_WORDS),
    Harness("metaimage", partial(check_volume, "metaimage"), metaimage_seeds, METAIMAGE_WORDS),
    Harness("mgh", partial(check_volume, "mgh"), mgh_seeds),
    Harness("volume_zip", partial(check_volume, "volume_zip"), volume_zip_seeds, METAIMAGE_WORDS),
)
