"""The files that were uploaded: taking them in, getting at them, letting go of them."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from segserve.errors import FileNotFound, SegserveError
from segserve.files.probe_file import probe_file
from segserve.images.image_library import compute_content_id
from segserve.store.file_store import FileStore
from segserve.temporary_files import translate_disk_full
from segserve.types import DEFAULT_TENANT, FileLimits, FileRecord, ReadOptions

COPY_CHUNK_BYTES = 1 << 20

log = structlog.get_logger(__name__)


class FileLibrary:
    """workers: run what blocks."""

    def __init__(self, store: FileStore, workers: Executor, limits: FileLimits) -> None:
        self._store, self._workers, self.limits = store, workers, limits

    async def add(self, tenant: str, file: BinaryIO) -> FileRecord:
        """Probe it first: what cannot be read is never stored. The same bytes have the same id. Raises BadInput,
        TooLarge, UnsupportedFormat, MissingDependency."""
        loop = asyncio.get_running_loop()
        file_id, _ = await loop.run_in_executor(self._workers, compute_content_id, file, ReadOptions())
        with suppress(FileNotFound):
            return await self._store.get_record(tenant, file_id)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"

            def look() -> FileRecord:
                file.seek(0)
                with path.open("wb") as out:
                    shutil.copyfileobj(file, out, COPY_CHUNK_BYTES)
                return probe_file(path, file_id, self.limits)

            record = await loop.run_in_executor(self._workers, look)
        await self._store.put(tenant, record, file)
        return record

    async def get_record(self, tenant: str, file_id: str) -> FileRecord:
        """Raises FileNotFound."""
        return await self._store.get_record(tenant, file_id)

    @asynccontextmanager
    async def local_copy(self, tenant: str, file_id: str) -> AsyncIterator[tuple[FileRecord, Path]]:
        """The file as a path, while the block runs. Raises FileNotFound."""
        record = await self._store.get_record(tenant, file_id)
        with translate_disk_full(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with translate_disk_full(), path.open("wb") as out:
                await self._store.download(tenant, file_id, out)
            yield record, path

    async def delete(self, tenant: str, file_id: str) -> None:
        """Raises FileNotFound."""
        await self._store.delete(tenant, file_id)

    async def expire(self, age: timedelta, every_s: float) -> None:
        """Delete files older than `age`. Runs until cancelled."""
        while True:
            try:
                for file_id in await self._store.list_older_than(DEFAULT_TENANT, age):
                    with suppress(FileNotFound):  # bytes without a record are gone all the same
                        await self.delete(DEFAULT_TENANT, file_id)
                    log.info("file expired", file_id=file_id)
            except SegserveError as error:
                log.warning("expiry interrupted", reason=str(error))
            await asyncio.sleep(every_s)
