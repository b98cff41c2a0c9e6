"""Zips: bounds, names, and the pictures in them."""

import io
import zipfile
from collections.abc import Iterable

from PIL import Image

from segserve.files.detect_format import detect_format
from segserve.files.picture_archive import PictureArchive
from segserve.files.zip_names import natural_sort_key
from segserve.types import Size
from tests.files.sample_files import encode_frame, make_zip_without_name
from tests.fuzz.harnesses.harness import Harness, expect_refusals, write_scratch
from tests.images.sample_images import save_image

MAX_PIXELS = 1 << 14
MAX_PICTURES_READ = 8


def read_archive(data: bytes) -> None:
    path = write_scratch("pictures.zip", data)
    with expect_refusals():
        detect_format(path)
    with expect_refusals():
        archive = PictureArchive(path, 1, MAX_PIXELS)
        try:
            check_archive(archive)
        finally:
            archive.close()


def check_archive(archive: PictureArchive) -> None:
    """Check that names stay inside, and that a picture is as large as its header said."""
    names = archive.names
    assert names == sorted(names, key=natural_sort_key)
    assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
    for index in range(min(archive.count, MAX_PICTURES_READ)):
        with expect_refusals():
            examined = {entry.name: entry.size for entry in archive.examined if entry.error is None}
            values = archive.values(index)
            assert len(examined) != archive.count or Size(*values.shape[:2]) == examined[names[index]]


def make_zip(entries: dict[str, bytes], compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def zip_seeds() -> Iterable[bytes]:
    pictures = {f"{index}.png": encode_frame(index, 8, 10) for index in range(3)}
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield make_zip(pictures, compression)
    tiff = save_image(Image.new("L", (10, 8)), "TIFF")
    yield make_zip({"folder/a10.tif": tiff, "folder/a2.tif": tiff, "note.txt": b"hello"}, zipfile.ZIP_STORED)
    yield make_zip({"\u00e9.png": pictures["0.png"]}, zipfile.ZIP_STORED)
    yield make_zip_without_name()


HARNESSES = (
    Harness(
        "zip",
        read_archive,
        zip_seeds,
        (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b".png", b"../"),
    ),
)
