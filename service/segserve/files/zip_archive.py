"""Read a zip of pictures, guarded against zip bombs and path traversal.

Pictures are unpacked part by part, never whole in memory, and no name in the zip is used as a path.
"""

import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from numpy.typing import NDArray

from segserve.errors import BadInput, TooLarge
from segserve.files.read_picture import read_picture
from segserve.images.formats import IMAGE_SUFFIXES
from segserve.images.open_any_image import open_any_image
from segserve.images.orientation import oriented_size
from segserve.temporary_files import translate_disk_full
from segserve.types import Size

MB = 1_000_000
MAX_ENTRIES = 100_000
# An entry's unpacked size over its packed size. DEFLATE reaches 1032, pictures far less.
MAX_RATIO = 1000
# 600 bytes for each of MAX_ENTRIES, rounded up.
MAX_DIRECTORY_BYTES = 64 * MB
# Begins each entry of the directory (APPNOTE 4.3.12).
ENTRY_MAGIC = b"PK\1\2"
# An entry up to this size may have any ratio.
ANY_RATIO_BYTES = 1 << 20
PICTURE_SUFFIXES = IMAGE_SUFFIXES
# Bytes that the headers of a picture have at most: its metadata up to the first pixel.
MAX_PICTURE_HEADER_BYTES = 32 << 20
# Larger pictures are unpacked on disk, smaller ones in memory.
SPOOL_BYTES = 1 << 20
COPY_CHUNK_BYTES = 1 << 18
# Its directories may be anywhere in it.
TIFF_MAGIC = (b"II", b"MM")
# Everything that `zipfile` raises for damaged, encrypted or unsupported files.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
    IndexError,
    OSError,
)


class _BoundedFile(io.BufferedReader):
    """`_BoundedFile` is a zip's file that refuses to read too large a directory while the zip is opened.

    `zipfile` reads the directory at once, however large it claims to be, and makes an object of each entry before the
    entries can be counted. Raises TooLarge.
    """

    is_opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.is_opening:
            return super().read(size)
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise too_many_entries_error(f"a directory of {size // MB} MB")
        data = super().read(size)
        if len(data) > MAX_ENTRIES * len(ENTRY_MAGIC) and (count := data.count(ENTRY_MAGIC)) > MAX_ENTRIES:
            raise too_many_entries_error(f"{count} entries")
        return data


class BoundedZip(zipfile.ZipFile):
    """`BoundedZip` is a `zipfile.ZipFile` that raises TooLarge where the zip has too many entries."""

    def __init__(self, path: Path) -> None:
        self._bounded_file = _BoundedFile(io.FileIO(path))
        try:
            super().__init__(self._bounded_file)
        except BaseException:
            self._bounded_file.close()
            raise
        self._bounded_file.is_opening = False

    def close(self) -> None:
        super().close()
        self._bounded_file.close()


class HeaderReader(io.BufferedIOBase, BinaryIO):
    """`HeaderReader` reads the beginning of an entry, and gives up after MAX_PICTURE_HEADER_BYTES. Raises TooLarge.

    A reader of pictures may ask for all bytes at once: of WebP, or of a metadata chunk that claims to be large.
    """

    def __init__(self, entry: IO[bytes]) -> None:
        self._entry, self._left = entry, MAX_PICTURE_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        data = self._entry.read(wanted)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(
                f"A picture in the zip has a header of over {MAX_PICTURE_HEADER_BYTES // MB} MB.",
                field="file",
                remedy="Send it without its metadata, or as a file of its own.",
            )
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._entry.seek(offset, whence)

    def tell(self) -> int:
        return self._entry.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class PictureArchive:
    """`PictureArchive` reads the pictures of a zip.

    max_mb: limit for all entries together, unpacked.
    max_pixels: limit for a picture.
    Raises BadInput, TooLarge.
    """

    def __init__(self, path: Path, max_mb: int, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        with wrap_zip_errors("The zip"):
            self._zip = BoundedZip(path)
        try:
            self._infos = self._list_pictures(max_mb)
        except BaseException:
            self._zip.close()
            raise

    def _list_pictures(self, max_mb: int) -> list[zipfile.ZipInfo]:
        """Return the pictures' entries in natural order. Raises BadInput, TooLarge."""
        infos = self._zip.infolist()
        check_entries(infos, max_mb)
        if not (pictures := [info for info in infos if is_picture(info)]):
            raise BadInput(
                "There are no pictures in the zip.",
                field="file",
                remedy=f"Put files into it that end with {', '.join(sorted(PICTURE_SUFFIXES))}.",
            )
        return sorted(pictures, key=lambda info: natural_sort_key(info.filename))

    @property
    def count(self) -> int:
        return len(self._infos)

    @property
    def names(self) -> list[str]:
        """Return the pictures' names in natural order: 2 before 10."""
        return [info.filename for info in self._infos]

    def unpack(self, index: int) -> BinaryIO:
        """Return picture `index` from 0 as a file at its beginning, which the caller closes. Raises BadInput."""
        unpacked = cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115
        try:
            for chunk in self._read_chunks(self._infos[index]):
                with translate_disk_full():
                    unpacked.write(chunk)
            unpacked.seek(0)
        except BaseException:
            unpacked.close()
            raise
        return unpacked

    def unpack_to(self, descriptor: int, index: int, max_bytes: int) -> None:
        """Write picture `index` from 0 to a file. Raises BadInput, TooLarge where it has more than `max_bytes`."""
        info = self._infos[index]
        if info.file_size > max_bytes:
            raise TooLarge(
                f"{info.filename[:100]!r} has {info.file_size // MB} MB; the limit is {max_bytes // MB} MB.",
                field="file",
                remedy="Send it smaller, or ask the operator to raise SEGSERVE_MAX_IMAGE_MB.",
            )
        for chunk in self._read_chunks(info):
            left = memoryview(chunk)
            with translate_disk_full():
                while left:
                    left = left[os.write(descriptor, left) :]

    def _read_chunks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """Yield the bytes of an entry, which has no more of them than it states. Raises BadInput."""
        with self._wrap_errors(info):
            entry = self._zip.open(info)
        with entry:
            while True:
                with self._wrap_errors(info):
                    chunk = entry.read(COPY_CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def picture_size(self, index: int) -> Size:
        """Return the size of picture `index`, of which only the header is unpacked. Raises BadInput, TooLarge."""
        info = self._infos[index]
        with self._wrap_errors(info), self._zip.open(info) as entry:
            head = entry.read(len(TIFF_MAGIC[0]))
        if head in TIFF_MAGIC:
            with self.unpack(index) as unpacked:
                return self._read_size(unpacked)
        with self._wrap_errors(info), self._zip.open(info) as entry:
            return self._read_size(HeaderReader(entry))

    def _read_size(self, picture: BinaryIO) -> Size:
        source = open_any_image(picture, 0, self._max_pixels, self._max_pixels)
        return oriented_size(source.size, source.orientation)

    def values(self, index: int) -> NDArray[Any]:
        """Return picture `index`, [H, W, 1 to 3], in its own dtype. Raises BadInput, TooLarge."""
        with self.unpack(index) as unpacked:
            return read_picture(unpacked, 0, self._max_pixels)

    def _wrap_errors(self, info: zipfile.ZipInfo) -> AbstractContextManager[None]:
        return wrap_zip_errors(f"{info.filename[:100]!r} in the zip")

    def close(self) -> None:
        self._zip.close()


@contextmanager
def wrap_zip_errors(subject: str) -> Iterator[None]:
    """Turn ZIP_ERRORS in the block into BadInput. subject: begins the message."""
    try:
        yield
    except ZIP_ERRORS:
        raise BadInput(
            f"{subject} cannot be read.",
            field="file",
            remedy="Make the zip again, without a password.",
        ) from None


def too_many_entries_error(contents: str) -> TooLarge:
    return TooLarge(
        f"The zip has {contents}.", field="file", remedy=f"Send at most {MAX_ENTRIES} pictures in one."
    )


def check_entries(infos: list[zipfile.ZipInfo], max_mb: int) -> None:
    """Check the names and the stated sizes of entries. Reading stops at the stated sizes. Raises BadInput, TooLarge."""
    for info in infos:
        if not info.filename.strip():
            raise BadInput(
                "The zip has an entry without a name.", field="file", remedy="Make it again with plain names."
            )
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in info.filename or ":" in path.parts[:1]:
            raise BadInput(
                f"The zip names a path outside itself: {info.filename[:100]!r}.",
                field="file",
                remedy="Make it again with plain relative names.",
            )
        if info.file_size > max(ANY_RATIO_BYTES, MAX_RATIO * info.compress_size):
            raise TooLarge(
                f"{info.filename[:100]!r} states {info.file_size} bytes, packed to {info.compress_size}.",
                field="file",
                remedy="Send pictures as they are.",
            )
    if (unpacked := sum(info.file_size for info in infos)) > max_mb * MB:
        raise TooLarge(
            f"The zip holds {unpacked // MB} MB unpacked; the limit is {max_mb} MB.",
            field="file",
            remedy="Send it in several parts, or ask the operator to raise SEGSERVE_MAX_FILE_MB.",
        )


def is_picture(info: zipfile.ZipInfo) -> bool:
    """Return whether an entry is a picture by its suffix, and neither hidden nor macOS metadata."""
    suffix = PurePosixPath(info.filename).suffix.lower()
    return not info.is_dir() and not is_hidden(info) and suffix in PICTURE_SUFFIXES


def is_hidden(info: zipfile.ZipInfo) -> bool:
    """Return whether an entry is hidden, or macOS metadata."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(info.filename).parts)


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key for sorting names in natural order: 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    # Numbers are compared as (length, digits), not as int: a name may have thousands of digits.
    return [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (1, 0, part.lower())
        for part in parts
    ]
