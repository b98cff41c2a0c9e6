"""Read the pictures of an uploaded zip in a sandboxed process, as files that the service decodes like uploads."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from segserve.errors import SegserveError
from segserve.files.file_readers import Count, FileProcess, FileReaders, Reply, broken_file_error
from segserve.files.zip_archive import MAX_DIRECTORY_BYTES, MAX_ENTRIES
from segserve.sandbox.shared_pixels import SharedPixels
from segserve.temporary_files import translate_disk_full
from segserve.types import FrameIndex

NAMES = TypeAdapter(list[str])


class ArchiveReply(Reply):
    names_bytes: Count


class SandboxedArchive:
    """`SandboxedArchive` is a zip of pictures that a process reads. Methods block; one thread calls them.

    index: of the file's record. Entries that are no pictures but named like some are read all the same.
    max_picture_bytes: limit for a picture, unpacked.
    Raises BadInput, TooLarge, Unavailable.
    """

    def __init__(self, readers: FileReaders, path: Path, index: FrameIndex, max_picture_bytes: int) -> None:
        self._index = index
        self._readers, self._path, self._max_picture_bytes = readers, path, max_picture_bytes
        self._process: FileProcess | None = None
        self.names = self._read_names(self._open())

    def _open(self) -> ArchiveReply:
        self._process = self._readers.open_process(self._path)
        try:
            request = {"operation": "open_archive", "limits": asdict(self._readers.limits)}
            request["index"] = asdict(self._index)
            return self._process.call(ArchiveReply, request)
        except BaseException:
            self.close()
            raise

    def _read_names(self, opened: ArchiveReply) -> list[str]:
        """Return the pictures' names in natural order."""
        assert self._process is not None
        try:
            if opened.names_bytes > 2 * MAX_DIRECTORY_BYTES:  # JSON escapes some characters
                raise broken_file_error()
            buffer = SharedPixels((opened.names_bytes,), np.uint8)
            try:
                self._process.call(Reply, {"operation": "write_names"}, buffer.descriptor)
                names = NAMES.validate_python(orjson.loads(buffer.copy().data), strict=True)
            except (orjson.JSONDecodeError, ValidationError):
                raise broken_file_error() from None
            finally:
                buffer.close()
            if not 0 < len(names) <= MAX_ENTRIES:
                raise broken_file_error()
            return names
        except BaseException:
            self.close()
            raise

    def unpack(self, index: int) -> BinaryIO:
        """Return picture `index` from 0 as a file at its beginning, which the caller closes.

        A picture that ends the process fails alone: the next one is read by another.
        """
        with translate_disk_full():
            unpacked = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        try:
            if self._process is None:
                self._open()
            assert self._process is not None
            request = {"operation": "unpack", "index": index, "max_bytes": self._max_picture_bytes}
            self._process.call(Reply, request, unpacked.fileno())
            if os.fstat(unpacked.fileno()).st_size > self._max_picture_bytes:
                raise broken_file_error()
            unpacked.seek(0)
            return unpacked
        except BaseException as error:
            unpacked.close()
            if not isinstance(error, SegserveError) or (self._process is not None and self._process.has_died):
                self.close()
            raise

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
