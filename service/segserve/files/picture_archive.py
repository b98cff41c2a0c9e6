"""Read the pictures of a zip. What is one is told by its content; names give the order only.

Pictures are unpacked one by one, never whole in memory if they are large.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from numpy.typing import NDArray

from segserve.errors import BadInput, SegserveError, TooLarge
from segserve.files.open_picture_entry import WHOLE_FILE_FORMATS, open_picture_entry
from segserve.files.read_picture import read_picture
from segserve.files.zip_archive import (
    MAX_LEFT_OUT_RANGES,
    BoundedZip,
    check_entry,
    check_unpacked_size,
    has_picture_suffix,
    is_hidden,
    wrap_zip_errors,
)
from segserve.files.zip_names import decode_names, natural_sort_key
from segserve.images.formats import detect_image_format
from segserve.images.open_any_image import open_any_image
from segserve.images.orientation import oriented_size
from segserve.temporary_files import translate_disk_full
from segserve.types import MB, Size

# Bytes that show the format of a picture may come after its metadata.
MAX_PICTURE_HEADER_BYTES = 32 << 20
# Larger pictures are unpacked on disk, smaller ones in memory.
SPOOL_BYTES = 1 << 20
COPY_CHUNK_BYTES = 1 << 18
ZIP_MAGIC = b"PK\3\4"
# What ends a picture that is whole, by what begins it. It may be followed by other bytes.
ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}
END_BYTES = 1024
# Pictures up to so many pixels together are decoded while the zip is examined; of later ones, those that look cut.
MAX_DECODED_PIXELS = 64_000_000


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


@dataclass(frozen=True)
class ExaminedEntry:
    """What an entry of a zip is.

    size: of a picture. pages: how many its file has. error: why it is no picture that can be read.
    """

    name: str
    size: Size | None = None
    pages: int = 1
    error: SegserveError | None = None


class PictureArchive:
    """`PictureArchive` reads the pictures of a zip, in the natural order of their names: 2 before 10.

    max_mb: limit for all entries together, unpacked.
    max_pixels: limit for a picture.
    left_out: (first, last) of the entries that are no pictures, see `FrameIndex`; None: all entries are examined.
    has_named: whether entries that are left out count all the same if they are named like pictures.
    Raises BadInput, TooLarge.
    """

    def __init__(
        self,
        path: Path,
        max_mb: int,
        max_pixels: int,
        left_out: Sequence[tuple[int, int]] | None = None,
        *,
        has_named: bool = False,
    ) -> None:
        self._max_pixels = max_pixels
        with wrap_zip_errors("The zip"):
            self._zip = BoundedZip(path)
        try:
            self._entries = self._list_entries(max_mb)
            self.examined = self._examine_all() if left_out is None else []
            self.left_out = self._find_left_out() if left_out is None else left_out
            missing = {number for first, last in self.left_out for number in range(first, last + 1)}
            self._numbers = [
                number
                for number, (name, _) in enumerate(self._entries)
                if number not in missing or (has_named and has_picture_suffix(name))
            ]
            if not self._numbers:
                raise no_pictures_error(self.examined)
        except BaseException:
            self._zip.close()
            raise

    def _list_entries(self, max_mb: int) -> list[tuple[str, zipfile.ZipInfo]]:
        """Return (name, entry) of the files that are not hidden, in natural order. Raises TooLarge."""
        infos = self._zip.infolist()
        check_unpacked_size(infos, max_mb)
        named = zip(decode_names(infos), infos, strict=True)
        entries = [(name, info) for name, info in named if not name.endswith("/") and not is_hidden(name)]
        return sorted(entries, key=lambda entry: natural_sort_key(entry[0]))

    def _examine_all(self) -> list[ExaminedEntry]:
        """Return what each entry is."""
        examined, left_pixels = [], MAX_DECODED_PIXELS
        for number in range(len(self._entries)):
            entry = self._examine(number, left_pixels)
            if entry.size is not None:
                left_pixels -= entry.size.height * entry.size.width
            examined.append(entry)
        return examined

    def _examine(self, number: int, left_pixels: int) -> ExaminedEntry:
        """Return what an entry is. All of it is unpacked, and its checksum compared. left_pixels: to decode at most."""
        name, info = self._entries[number]
        try:
            check_entry(info)
            with self._open_entry(number) as picture:
                head = picture.read(len(ZIP_MAGIC))
                if head == ZIP_MAGIC:
                    raise BadInput("It is a zip. Send it by itself.")
                with open_picture_entry(picture, 0, self._max_pixels, self._max_pixels) as opened:
                    size, pages = oriented_size(opened.source.size, opened.source.orientation), opened.pages
                if size.height * size.width <= left_pixels or not has_end(picture, head):
                    picture.seek(0)
                    read_picture(picture, 0, self._max_pixels)
                return ExaminedEntry(name, size, pages)
        except (BadInput, TooLarge) as error:
            return ExaminedEntry(name, error=error)

    def _open_entry(self, number: int) -> BinaryIO:
        """Return an entry as a file; a large one only if it begins like a picture. Raises BadInput, TooLarge."""
        info = self._entries[number][1]
        if info.file_size <= SPOOL_BYTES:
            with self._wrap_errors(info):
                return io.BytesIO(self._zip.read(info))
        with self._wrap_errors(info), self._zip.open(info) as entry:
            header = HeaderReader(entry)
            # The directories of the others may be anywhere in them.
            if detect_image_format(header) not in WHOLE_FILE_FORMATS:
                header.seek(0)
                open_any_image(header, 0, self._max_pixels, self._max_pixels)
        return self._unpack(info)

    def _find_left_out(self) -> list[tuple[int, int]]:
        """Return the (first, last) of the examined entries that are no pictures. Raises BadInput."""
        ranges: list[tuple[int, int]] = []
        for number, entry in enumerate(self.examined):
            if entry.error is None:
                continue
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        if len(ranges) > MAX_LEFT_OUT_RANGES:
            raise no_pictures_error(self.examined)
        return ranges

    @property
    def count(self) -> int:
        return len(self._numbers)

    @property
    def wrong_names(self) -> int:
        """Return how many names are not the UTF-8 that they claim to be."""
        return self._zip.wrong_names

    @property
    def names(self) -> list[str]:
        """Return the pictures' names."""
        return [self._entries[number][0] for number in self._numbers]

    def unpack(self, index: int) -> BinaryIO:
        """Return picture `index` from 0 as a file at its beginning, which the caller closes. Raises BadInput."""
        return self._unpack(self._info(index))

    def _unpack(self, info: zipfile.ZipInfo) -> BinaryIO:
        unpacked = cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115
        try:
            for chunk in self._read_chunks(info):
                with translate_disk_full():
                    unpacked.write(chunk)
            unpacked.seek(0)
        except BaseException:
            unpacked.close()
            raise
        return unpacked

    def unpack_to(self, descriptor: int, index: int, max_bytes: int) -> None:
        """Write picture `index` from 0 to a file. Raises BadInput, TooLarge where it has more than `max_bytes`."""
        info = self._info(index)
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

    def _info(self, index: int) -> zipfile.ZipInfo:
        """Return the entry of picture `index`. Raises BadInput, TooLarge: it may have the name of a picture only."""
        info = self._entries[self._numbers[index]][1]
        check_entry(info)
        return info

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

    def values(self, index: int) -> NDArray[Any]:
        """Return picture `index`, [H, W, 1 to 3], in its own dtype. Raises BadInput, TooLarge."""
        with self.unpack(index) as unpacked:
            return read_picture(unpacked, 0, self._max_pixels)

    def _wrap_errors(self, info: zipfile.ZipInfo) -> AbstractContextManager[None]:
        return wrap_zip_errors(f"{info.filename[:100]!r} in the zip")

    def close(self) -> None:
        self._zip.close()


def has_end(picture: BinaryIO, head: bytes) -> bool:
    """Return whether a PNG or JPEG ends as such; True for other formats. head: its first bytes."""
    end = next((end for magic, end in ENDS.items() if head.startswith(magic)), b"")
    picture.seek(max(0, picture.seek(0, io.SEEK_END) - END_BYTES))
    return end in picture.read(END_BYTES)


def no_pictures_error(examined: Sequence[ExaminedEntry]) -> SegserveError:
    """Return the refusal of a zip of which nothing is taken."""
    refused = [(entry.name, entry.error) for entry in examined if entry.error is not None]
    if not refused:
        return BadInput("There are no pictures in the zip.", field="file", remedy="Put some into it.")
    # A file that is named like a picture says more about what is wrong than a note beside it.
    name, error = next((entry for entry in refused if has_picture_suffix(entry[0])), refused[0])
    are_named = has_picture_suffix(name)
    error_type = TooLarge if all(isinstance(error, TooLarge) for _, error in refused) else BadInput
    return error_type(
        f"{'None of the pictures in the zip can be read.' if are_named else 'There are no pictures in the zip.'}"
        f" {name[:100]!r}: {error.message}",
        field="file",
        remedy=error.remedy or "Make the zip again, of pictures as they are.",
    )
