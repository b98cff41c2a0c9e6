"""The files of an upload: the entries of a zip, or the one file itself, which gzip may have packed."""

import gzip
import io
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import ZipInfo

from segserve.errors import BadInput, TooLarge
from segserve.files.dicom.detect_dicom import HEAD_BYTES, is_dicom
from segserve.files.zip_archive import BoundedZip, check_entries, wrap_zip_errors
from segserve.images.formats import GZIP_MAGIC
from segserve.temporary_files import translate_disk_full
from segserve.types import MB

ZIP_MAGIC = b"PK"
# Of a file that is read to find its pixels; most headers are shorter.
HEADER_BYTES = 1 << 16
# Smaller files are unpacked in memory.
SPOOL_BYTES = 16 << 20
COPY_CHUNK_BYTES = 1 << 20


class DicomEntries:
    """`DicomEntries` opens the files of an upload by their number.

    max_mb: limit for a zip or a gzip file, unpacked.
    Raises BadInput, TooLarge.
    """

    def __init__(self, path: Path, max_mb: int) -> None:
        self._path = path
        self._zip: BoundedZip | None = None
        self._infos: list[ZipInfo] = []
        self._unpacked: Path | None = None
        with path.open("rb") as file:
            magic = file.read(len(ZIP_MAGIC))
        if magic == GZIP_MAGIC:
            self._path = self._unpacked = unpack_gzip(path, max_mb * MB)
        if magic == ZIP_MAGIC:
            with wrap_zip_errors("The zip"):
                self._zip = BoundedZip(path)
            try:
                self._infos = [info for info in self._zip.infolist() if not info.is_dir()]
                check_entries(self._infos, max_mb)
            except BaseException:
                self._zip.close()
                raise

    @property
    def count(self) -> int:
        return len(self._infos) if self._zip is not None else 1

    def name(self, entry: int) -> str:
        """Return the name of a file in the zip; of the upload itself, which has none, "The file"."""
        return self._infos[entry].filename if self._zip is not None else ""

    def size(self, entry: int) -> int:
        return self._infos[entry].file_size if self._zip is not None else self._path.stat().st_size

    def describe(self, entry: int) -> str:
        """Return the subject of a sentence about a file."""
        return f"{self.name(entry)[:100]!r} in the zip" if self._zip is not None else "The file"

    def head(self, entry: int) -> bytes:
        """Return up to HEADER_BYTES of the beginning of a file; only what shows that it is no DICOM, if it is none.

        Raises BadInput where the zip is damaged there.
        """
        if self._zip is None:
            with self._path.open("rb") as file:
                return file.read(HEADER_BYTES)
        with wrap_zip_errors(self.describe(entry)), self._zip.open(self._infos[entry]) as unpacked:
            head = unpacked.read(HEAD_BYTES)
            return head + unpacked.read(HEADER_BYTES - HEAD_BYTES) if is_dicom(head) else head

    def open(self, entry: int) -> BinaryIO:
        """Return a file at its beginning, which the caller closes. Raises BadInput where the zip is damaged there."""
        if self._zip is None:
            return self._path.open("rb")
        info = self._infos[entry]
        if info.file_size <= SPOOL_BYTES:
            with wrap_zip_errors(self.describe(entry)):
                return io.BytesIO(self._zip.read(info))
        unpacked = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        try:
            with (
                wrap_zip_errors(self.describe(entry)),
                translate_disk_full(),
                closing(self._zip.open(info)) as packed,
            ):
                while chunk := packed.read(COPY_CHUNK_BYTES):
                    unpacked.write(chunk)
            unpacked.seek(0)
        except BaseException:
            unpacked.close()
            raise
        return unpacked

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()
        if self._unpacked is not None:
            self._unpacked.unlink(missing_ok=True)


def unpack_gzip(path: Path, max_bytes: int) -> Path:
    """Return a new file with what a gzip file holds, which the caller deletes. Raises BadInput, TooLarge."""
    descriptor, name = tempfile.mkstemp()
    unpacked = Path(name)
    try:
        with translate_disk_full(), open(descriptor, "wb") as out, gzip.open(path) as packed:
            while chunk := packed.read(COPY_CHUNK_BYTES):
                if out.tell() + len(chunk) > max_bytes:
                    raise TooLarge(
                        f"The file holds over {max_bytes // MB} MB unpacked.",
                        field="file",
                        remedy="Send a part of it, or ask the operator to raise SEGSERVE_MAX_FILE_MB.",
                    )
                out.write(chunk)
    except BaseException as error:
        unpacked.unlink(missing_ok=True)
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise BadInput(
                "The gzip stream of the DICOM file is damaged or ends early.",
                field="file",
                remedy="Copy it again from its source, or send it unpacked.",
            ) from None
        raise
    return unpacked
