"""A zip of pictures. Nothing is unpacked to the disk, and no name in it is used as a path."""

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

MAX_ENTRIES = 100_000
MB = 1_000_000
MAX_RATIO = 1000  # of an entry's size to what it takes in the archive: DEFLATE's limit is 1032, pictures are far below
MAX_DIRECTORY_BYTES = 64 * MB  # 600 bytes an entry
ENTRY_MAGIC = b"PK\1\2"  # begins each entry of the directory (APPNOTE 4.3.12)
ANY_RATIO_BYTES = 1 << 20  # bytes that an entry may have at any ratio
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
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


class BoundedDirectory(io.BufferedReader):
    """A zip's file while it is opened: `zipfile` reads the directory at once, however large it is said to be, and makes
    an object of each entry before anybody can count them. Raises TooLarge."""

    opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.opening:
            return super().read(size)
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise too_many_entries_error(f"a directory of {size // MB} MB")
        data = super().read(size)
        if len(data) > MAX_ENTRIES * len(ENTRY_MAGIC) and (count := data.count(ENTRY_MAGIC)) > MAX_ENTRIES:
            raise too_many_entries_error(f"{count} entries")
        return data


class BoundedZip(zipfile.ZipFile):
    """Raises TooLarge where it has too many entries, and what `zipfile.ZipFile` raises."""

    def __init__(self, path: Path) -> None:
        self._directory = BoundedDirectory(io.FileIO(path))
        try:
            super().__init__(self._directory)
        except BaseException:
            self._directory.close()
            raise
        self._directory.opening = False

    def close(self) -> None:
        super().close()
        self._directory.close()


class PictureArchive:
    """max_mb: of all entries together, unpacked. max_pixels: of a picture. Raises BadInput, TooLarge."""

    def __init__(self, path: Path, max_mb: int, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        with wrap_zip_errors("The zip"):
            self._zip = BoundedZip(path)
        try:
            self._infos = self._pictures(max_mb)
        except BaseException:
            self._zip.close()
            raise

    def _pictures(self, max_mb: int) -> list[zipfile.ZipInfo]:
        infos = self._zip.infolist()
        check_entries(infos, max_mb)
        if not (found := [info for info in infos if is_picture(info)]):
            raise BadInput(
                "There are no pictures in the zip.",
                field="file",
                remedy=f"Put files into it that end with {', '.join(sorted(PICTURE_SUFFIXES))}.",
            )
        return sorted(found, key=lambda info: natural_sort_key(info.filename))

    @property
    def count(self) -> int:
        return len(self._infos)

    @property
    def names(self) -> list[str]:
        """In natural order: 2 before 10."""
        return [info.filename for info in self._infos]

    def content(self, index: int) -> bytes:
        """A picture's bytes. Raises BadInput where they are damaged."""
        with wrap_zip_errors(f"{self._infos[index].filename!r} in the zip"):
            return self._zip.read(self._infos[index])

    def picture_size(self, index: int) -> Size:
        """From the header. Raises BadInput, TooLarge."""
        source = open_image(io.BytesIO(self.content(index)), 0, self._max_pixels, self._max_pixels)
        return oriented_size(source.size, source.orientation)

    def values(self, index: int) -> NDArray[Any]:
        """[H, W, 1 to 3]. Raises BadInput, TooLarge."""
        source = open_image(io.BytesIO(self.content(index)), 0, self._max_pixels, self._max_pixels)
        pixels = source.read()
        return apply_orientation(select_channels(pixels.values, pixels.has_alpha, None), pixels.orientation)

    def close(self) -> None:
        self._zip.close()


@contextmanager
def wrap_zip_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ZIP_ERRORS as error:
        raise BadInput(
            f"{what} cannot be read: {error}.", field="file", remedy="Make the zip again, without a password."
        ) from None


def too_many_entries_error(what: str) -> TooLarge:
    return TooLarge(
        f"The zip has {what}.", field="file", remedy=f"Send at most {MAX_ENTRIES} pictures in one."
    )


def check_entries(infos: list[zipfile.ZipInfo], max_mb: int) -> None:
    """What the directory states; reading stops at the stated sizes. Raises BadInput, TooLarge."""
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or "\0" in info.filename or ":" in path.parts[:1]:
            raise BadInput(
                f"The zip names a place outside itself: {info.filename[:100]!r}.",
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
    path = PurePosixPath(info.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not info.is_dir() and not hidden and path.suffix.lower() in PICTURE_SUFFIXES


def natural_sort_key(name: str) -> list[tuple[int, int, str]]:
    """To sort by: numbers by their values, so that 2 comes before 10."""
    parts = re.findall(r"\d+|\D+", name)
    # By digits, not as numbers: a name may have thousands of them.
    return [
        (0, len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (1, 0, part.lower())
        for part in parts
    ]
