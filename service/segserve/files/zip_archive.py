"""Read a zip of pictures, guarded against zip bombs and path traversal.

Pictures are unpacked in memory, and no name in the zip is used as a path.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from segserve.errors import BadInput, TooLarge
from segserve.images.orientation import apply_orientation, oriented_size
from segserve.images.read_image import open_image, select_channels
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
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
# Everything that `zipfile` raises for damaged, encrypted or unsupported files.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
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

    def content(self, index: int) -> bytes:
        """Return the bytes of picture `index` from 0. Raises BadInput where they are damaged."""
        with wrap_zip_errors(f"{self._infos[index].filename!r} in the zip"):
            return self._zip.read(self._infos[index])

    def picture_size(self, index: int) -> Size:
        """Return the size of picture `index` from its header. Raises BadInput, TooLarge."""
        source = open_image(io.BytesIO(self.content(index)), 0, self._max_pixels, self._max_pixels)
        return oriented_size(source.size, source.orientation)

    def values(self, index: int) -> NDArray[Any]:
        """Return picture `index`, [H, W, 1 to 3], in its own dtype. Raises BadInput, TooLarge."""
        source = open_image(io.BytesIO(self.content(index)), 0, self._max_pixels, self._max_pixels)
        pixels = source.read()
        return apply_orientation(select_channels(pixels.values, pixels.has_alpha, None), pixels.orientation)

    def close(self) -> None:
        self._zip.close()


@contextmanager
def wrap_zip_errors(subject: str) -> Iterator[None]:
    """Turn ZIP_ERRORS in the block into BadInput. subject: begins the message."""
    try:
        yield
    except ZIP_ERRORS as error:
        raise BadInput(
            f"{subject} cannot be read: {error}.",
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
    path = PurePosixPath(info.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not info.is_dir() and not hidden and path.suffix.lower() in PICTURE_SUFFIXES


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """Return a key for sorting names in natural order: 2 before 10."""
    parts = re.findall(r"\d+|\D+", name)
    # Numbers are compared as (length, digits), not as int: a name may have thousands of digits.
    return [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (1, 0, part.lower())
        for part in parts
    ]
