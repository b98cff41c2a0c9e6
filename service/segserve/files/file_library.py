"""Uploaded files: add, read, delete, expire."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, TypeAlias

from segserve.errors import FileNotFound
from segserve.files.file_readers import FileReaders
from segserve.store.content_id import compute_content_id
from segserve.store.expiry import delete_expired
from segserve.store.file_store import FileStore
from segserve.temporary_files import translate_disk_full
from segserve.types import FileOptions, FileRecord

COPY_CHUNK_BYTES = 1 << 20

# Called with the id of a file that is to be stored.
BeforeStoring: TypeAlias = Callable[[str], Awaitable[None]]


class FileLibrary:
    """`FileLibrary` adds, reads and deletes stored files.

    executor: threads that copy files.
    """

    def __init__(self, store: FileStore, executor: Executor, readers: FileReaders) -> None:
        self._store, self._executor, self.readers = store, executor, readers

    async def add(
        self,
        tenant: str,
        file: BinaryIO,
        options: FileOptions = FileOptions(),
        *,
        before_storing: BeforeStoring | None = None,
    ) -> FileRecord:
        """Store a file and return its record. The same bytes with the same options always have the same id.

        The file is probed first, so that an unreadable one is never stored. Raises BadInput, TooLarge,
        UnsupportedFormat, MissingDependency, Unavailable.
        """
        loop = asyncio.get_running_loop()
        file_id, _ = await loop.run_in_executor(self._executor, compute_content_id, file, options)
        with suppress(FileNotFound):
            return await self._store.get_record(tenant, file_id)
        readers = self.readers.group()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"

            def copy_and_probe() -> FileRecord:
                file.seek(0)
                with path.open("wb") as out:
                    shutil.copyfileobj(file, out, COPY_CHUNK_BYTES)
                return readers.probe(path, file_id, options)

            record = await readers.run(copy_and_probe)
        if before_storing is not None:
            await before_storing(file_id)
        await self._store.put(tenant, record, file)
        return record

    async def get_record(self, tenant: str, file_id: str) -> FileRecord:
        """Return the file's record. Raises FileNotFound."""
        return await self._store.get_record(tenant, file_id)

    @asynccontextmanager
    async def local_copy(self, tenant: str, file_id: str) -> AsyncIterator[tuple[FileRecord, Path]]:
        """Download the file, and yield its record and its path while the block runs. Raises FileNotFound."""
        record = await self._store.get_record(tenant, file_id)
        with translate_disk_full(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with translate_disk_full(), path.open("wb") as out:
                await self._store.download(tenant, file_id, out)
            yield record, path

    async def delete(self, tenant: str, file_id: str) -> None:
        """Delete the file. Raises FileNotFound."""
        await self._store.delete(tenant, file_id)

    async def expire(self, find_max_age: Callable[[str], timedelta | None], interval_s: float) -> None:
        """Delete files older than their tenant keeps them, every `interval_s` seconds, until cancelled.

        find_max_age: see `delete_expired`.
        """
        await delete_expired(self._store, self.delete, find_max_age, interval_s, kind="file")
