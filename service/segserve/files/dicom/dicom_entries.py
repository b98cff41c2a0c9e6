"""The files of an upload: the entries of a zip, or the one file itself."""

import io
import tempfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import ZipInfo

from segserve.files.dicom.detect_dicom import HEAD_BYTES, is_dicom
from segserve.files.zip_archive import BoundedZip, check_entries, wrap_zip_errors
from segserve.temporary_files import translate_disk_full

ZIP_MAGIC = b"PK"
# Of a file that is read to find its pixels; most headers are shorter.
HEADER_BYTES = 1 << 16
# Smaller files are unpacked in memory.
SPOOL_BYTES = 16 << 20
COPY_CHUNK_BYTES = 1 << 20


class DicomEntries:
    """`DicomEntries` opens the files of an upload by their number.

    max_mb: limit for a zip, unpacked.
    Raises BadInput, TooLarge.
    """

    def __init__(self, path: Path, max_mb: int) -> None:
        self._path = path
        self._zip: BoundedZip | None = None
        self._infos: list[ZipInfo] = []
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        if is_zip:
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
