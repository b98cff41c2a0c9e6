"""Files that are needed only while a process uses them, such as the frames of a frontend's session.

Each has a lease in the object store, which its process renews until it deletes the file. Where a process is killed its
leases end, and the next process that looks deletes the files. With several replicas nothing else tells who still lives.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import BinaryIO

import structlog

from segserve.errors import FileNotFound, SegserveError
from segserve.files.file_library import FileLibrary
from segserve.store.file_store import FileStore
from segserve.types import FileRecord

# A lease is renewed three times before it ends: a slow store or a busy machine ends none.
LEASE = timedelta(minutes=15)
RENEWAL = timedelta(minutes=5)

log = structlog.get_logger(__name__)


class LeasedFiles:
    """`LeasedFiles` adds files that this process will delete, and deletes those that others left behind."""

    def __init__(self, files: FileLibrary, store: FileStore) -> None:
        self._files, self._store = files, store
        self._held: set[tuple[str, str]] = set()

    async def add(self, tenant: str, file: BinaryIO) -> FileRecord:
        """Store a file that nobody else has, and hold its lease. Raises as `FileLibrary.add` does."""

        file_ids = list[str]()

        async def hold(file_id: str) -> None:
            file_ids.append(file_id)
            await self._store.put_lease(tenant, file_id)
            self._held.add((tenant, file_id))

        try:
            return await self._files.add(tenant, file, before_storing=hold)
        except SegserveError:
            for file_id in file_ids:
                await self.delete(tenant, file_id)
            raise

    async def delete(self, tenant: str, file_id: str) -> None:
        """Delete a file and its lease, if they are there."""
        with suppress(FileNotFound):
            await self._files.delete(tenant, file_id)
        await self._store.delete_lease(tenant, file_id)
        self._held.discard((tenant, file_id))

    async def keep(self) -> None:
        """Renew what is held, and delete what nobody holds any more, now and again and again, until cancelled."""
        while True:
            try:
                for tenant, file_id in list(self._held):
                    await self._store.put_lease(tenant, file_id)
                for tenant in await self._store.list_tenants():
                    for file_id in await self._store.list_ended_leases(tenant, LEASE):
                        if (tenant, file_id) not in self._held:
                            await self.delete(tenant, file_id)
                            log.info(
                                "a file that a process left behind is deleted", tenant=tenant, file_id=file_id
                            )
            except SegserveError as error:
                log.warning("leases not renewed", reason=str(error))
            await asyncio.sleep(RENEWAL.total_seconds())

    async def close(self) -> None:
        """Delete all files that are held: what they were needed for ends with this process."""
        for tenant, file_id in list(self._held):
            with suppress(SegserveError):  # then their leases end
                await self.delete(tenant, file_id)
