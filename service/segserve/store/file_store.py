"""Uploaded videos, stacks and volumes, and what is known of them, in the object store.

`bytes` are written first and `record.json` last; a file without a record does not exist.
"""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import BinaryIO

import orjson

from segserve.errors import FileNotFound, StorageFull
from segserve.store import keys
from segserve.store.image_store import is_sha256
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.types import FileKind, FileRecord, Size


class FileStore:
    """Every path is made here from a tenant and an id that this service computed or checked."""

    def __init__(self, objects: ObjectStore, quota: Quota) -> None:
        self._objects, self._quota = objects, quota

    async def put(self, tenant: str, record: FileRecord, file: BinaryIO) -> None:
        """Store a probed file. Raises TooLarge, StorageFull."""
        file.seek(0)
        async with self._quota.reserve(tenant, record.stored_bytes):
            await self._objects.put(keys.file_bytes(tenant, record.file_id), file)
            try:
                await self._objects.put(
                    keys.file_record(tenant, record.file_id), orjson.dumps(asdict(record))
                )
            except StorageFull:
                await self._objects.delete(keys.file_bytes(tenant, record.file_id))
                raise

    async def get_record(self, tenant: str, file_id: str) -> FileRecord:
        """Raises FileNotFound."""
        data = await self._objects.get(keys.file_record(tenant, file_id)) if is_sha256(file_id) else None
        if data is None:
            raise FileNotFound(file_id)
        return parse_file_record(data)

    async def download(self, tenant: str, file_id: str, into: BinaryIO) -> None:
        """The bytes as they were uploaded. Raises FileNotFound."""
        parts = await self._objects.stream(keys.file_bytes(tenant, file_id)) if is_sha256(file_id) else None
        if parts is None:
            raise FileNotFound(file_id)
        async for part in parts:
            into.write(part)

    async def list_older_than(self, tenant: str, age: timedelta) -> list[str]:
        """Ids of the files uploaded longer ago than `age`, and of bytes that lost their record."""
        limit, folder = time.time() - age.total_seconds(), keys.files(tenant)
        listed = await self._objects.list(folder)
        found = [entry.path.removeprefix(folder) for entry in listed if entry.modified < limit]
        return sorted({path.partition("/")[0] for path in found})

    async def delete(self, tenant: str, file_id: str) -> None:
        """The record goes first: from then on the file does not exist. Raises FileNotFound."""
        try:
            record = await self.get_record(tenant, file_id)
        finally:
            if is_sha256(file_id):
                await self._objects.delete(keys.file_record(tenant, file_id))
                await self._objects.delete(keys.file_bytes(tenant, file_id))
        self._quota.adjust(tenant, -record.stored_bytes)


def parse_file_record(data: bytes) -> FileRecord:
    raw = orjson.loads(data)
    spacing = raw["spacing"]
    return FileRecord(
        **{
            **raw,
            "kind": FileKind(raw["kind"]),
            "size": Size(**raw["size"]),
            "spacing": None if spacing is None else tuple(spacing),
        }
    )
