"""Open a zip, guarded against zip bombs and path traversal. No name in it is used as a path."""

import io
import struct
import zipfile
import zlib
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from segserve.errors import BadInput, TooLarge
from segserve.images.formats import IMAGE_SUFFIXES

MB = 1_000_000
MAX_ENTRIES = 100_000
# An entry's unpacked size over its packed size. DEFLATE reaches 1032, pictures far less.
MAX_RATIO = 1000
# 600 bytes for each of MAX_ENTRIES, rounded up.
MAX_DIRECTORY_BYTES = 64 * MB
# The entry is encrypted (APPNOTE 4.4.4).
ENCRYPTED_FLAG = 1
# Ranges of entries that are left out. A message of the sandbox holds them.
MAX_LEFT_OUT_RANGES = 5_000
# Begins each entry of the directory (APPNOTE 4.3.12), whose flags, lengths of name, extra field and comment are there.
ENTRY_MAGIC = b"PK\1\2"
ENTRY_HEADER = struct.Struct("<4s4xH18xHHH12x")
FLAGS_AT, LOCAL_FLAGS_AT = 8, 6
# The name is UTF-8 (APPNOTE, appendix D).
UTF8_FLAG = 0x800
# An entry up to this size may have any ratio.
ANY_RATIO_BYTES = 1 << 20
PICTURE_SUFFIXES = IMAGE_SUFFIXES
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

    wrong_names: numbers of the entries whose names are not the UTF-8 that they claim to be, which `zipfile` refuses.
    wrong_headers: offsets of their own headers, once the zip is open.
    """

    is_opening = True
    wrong_names: Sequence[int] = ()
    wrong_headers: Container[int] = ()

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.is_opening:
            at = self.tell() if self.wrong_headers else -1
            data = super().read(size)
            return clear_name_flag(data) if at in self.wrong_headers else data
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise too_many_entries_error(f"a directory of {size // MB} MB")
        data = super().read(size)
        if len(data) > MAX_ENTRIES * len(ENTRY_MAGIC) and (count := data.count(ENTRY_MAGIC)) > MAX_ENTRIES:
            raise too_many_entries_error(f"{count} entries")
        if not data.startswith(ENTRY_MAGIC):
            return data
        corrected, self.wrong_names = correct_name_flags(data)
        return corrected


def correct_name_flags(directory: bytes) -> tuple[bytes, Sequence[int]]:
    """Return the directory with names that are not UTF-8 marked so, and the numbers of those that claim to be."""
    corrected, wrong, at, number = bytearray(directory), list[int](), 0, 0
    while at + ENTRY_HEADER.size <= len(directory):
        magic, flags, name_bytes, extra_bytes, comment_bytes = ENTRY_HEADER.unpack_from(directory, at)
        if magic != ENTRY_MAGIC:
            break
        start = at + ENTRY_HEADER.size
        if flags & UTF8_FLAG and not is_utf8(directory[start : start + name_bytes]):
            struct.pack_into("<H", corrected, at + FLAGS_AT, flags & ~UTF8_FLAG)
            wrong.append(number)
        at, number = start + name_bytes + extra_bytes + comment_bytes, number + 1
    return bytes(corrected) if wrong else directory, wrong


def clear_name_flag(header: bytes) -> bytes:
    """Return the header of an entry (APPNOTE 4.3.7), without the claim that its name is UTF-8."""
    if len(header) < LOCAL_FLAGS_AT + 2:
        return header
    (flags,) = struct.unpack_from("<H", header, LOCAL_FLAGS_AT)
    cleared = bytearray(header)
    struct.pack_into("<H", cleared, LOCAL_FLAGS_AT, flags & ~UTF8_FLAG)
    return bytes(cleared)


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


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
        infos = self.infolist()
        self._bounded_file.wrong_headers = {
            infos[number].header_offset for number in self._bounded_file.wrong_names if number < len(infos)
        }

    @property
    def wrong_names(self) -> int:
        """Return how many names are not the UTF-8 that they claim to be. They are read as those that claim nothing."""
        return len(self._bounded_file.wrong_names)

    def close(self) -> None:
        super().close()
        self._bounded_file.close()


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
        check_entry(info)
    check_unpacked_size(infos, max_mb)


def check_entry(info: zipfile.ZipInfo) -> None:
    """Check the name and the stated size of an entry, and that it has no password. Raises BadInput, TooLarge."""
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
    if info.flag_bits & ENCRYPTED_FLAG:
        raise BadInput(
            f"{info.filename[:100]!r} has a password.", field="file", remedy="Make the zip again without one."
        )
    if is_bomb(info):
        raise TooLarge(
            f"{info.filename[:100]!r} states {info.file_size} bytes, packed to {info.compress_size}.",
            field="file",
            remedy="Send pictures as they are.",
        )


def is_bomb(info: zipfile.ZipInfo) -> bool:
    return info.file_size > max(ANY_RATIO_BYTES, MAX_RATIO * info.compress_size)


def check_unpacked_size(infos: list[zipfile.ZipInfo], max_mb: int) -> None:
    """Check the size of all entries together, but those that `check_entry` refuses as too large. Raises TooLarge."""
    if (unpacked := sum(info.file_size for info in infos if not is_bomb(info))) > max_mb * MB:
        raise TooLarge(
            f"The zip holds {unpacked // MB} MB unpacked; the limit is {max_mb} MB.",
            field="file",
            remedy="Send it in several parts, or ask the operator to raise SEGSERVE_MAX_FILE_MB.",
        )


def is_hidden(name: str) -> bool:
    """Return whether an entry is hidden, or metadata of macOS."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)


def has_picture_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES
