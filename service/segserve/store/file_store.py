"""Uploaded videos, stacks and volumes, and their records, in the object store.

The bytes are written first and `record.json` last. A file without a record does not exist.
"""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any, BinaryIO

import orjson

from segserve.errors import FileNotFound, StorageFull
from segserve.store import object_paths
from segserve.store.content_id import is_content_id
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.types import (
    FileContent,
    FileKind,
    FileOptions,
    FileRecord,
    FrameIndex,
    LeftOut,
    LeftOutFile,
    Size,
)


class FileStore:
    """`FileStore` keeps files by tenant and file_id. Ids that are not of this service's form are never made a path."""

    def __init__(self, objects: ObjectStore, quota: Quota) -> None:
        self._objects, self._quota = objects, quota

    async def put(self, tenant: str, record: FileRecord, file: BinaryIO) -> None:
        """Store a probed file. Raises TooLarge, StorageFull."""
        file.seek(0)
        bytes_path = object_paths.file_bytes(tenant, record.file_id)
        async with self._quota.reserve(tenant, record.stored_bytes):
            await self._objects.put(bytes_path, file)
            try:
                await self._objects.put(
                    object_paths.file_record(tenant, record.file_id), orjson.dumps(asdict(record))
                )
            except StorageFull:
                await self._objects.delete(bytes_path)
                raise

    async def get_record(self, tenant: str, file_id: str) -> FileRecord:
        """Raises FileNotFound."""
        data = None
        if is_content_id(file_id):
            data = await self._objects.get(object_paths.file_record(tenant, file_id))
        if data is None:
            raise FileNotFound(file_id)
        return parse_file_record(data)

    async def download(self, tenant: str, file_id: str, target: BinaryIO) -> None:
        """Write the bytes, as they were uploaded, to `target`. Raises FileNotFound."""
        parts = None
        if is_content_id(file_id):
            parts = await self._objects.stream(object_paths.file_bytes(tenant, file_id))
        if parts is None:
            raise FileNotFound(file_id)
        async for part in parts:
            target.write(part)

    async def list_tenants(self) -> list[str]:
        """Return the tenants that have stored anything."""
        return await list_tenants(self._objects)

    async def list_older_than(self, tenant: str, age: timedelta) -> list[str]:
        """Return the ids of files uploaded longer ago than `age`, and of bytes that lost their record."""
        return await self._list_older_than(object_paths.files(tenant), age)

    async def _list_older_than(self, folder: str, age: timedelta) -> list[str]:
        """Return the names of files, and of folders with files, that were written longer ago than `age`."""
        limit = time.time() - age.total_seconds()
        listed = await self._objects.list(folder)
        old_paths = [stored.path.removeprefix(folder) for stored in listed if stored.modified < limit]
        return sorted({path.partition("/")[0] for path in old_paths})

    async def put_lease(self, tenant: str, file_id: str) -> None:
        """Begin or renew the lease of a file, which may not be stored yet."""
        await self._objects.put(object_paths.lease(tenant, file_id), b"")

    async def delete_lease(self, tenant: str, file_id: str) -> None:
        await self._objects.delete(object_paths.lease(tenant, file_id))

    async def list_ended_leases(self, tenant: str, age: timedelta) -> list[str]:
        """Return the ids of files whose lease was renewed longer ago than `age`."""
        return await self._list_older_than(object_paths.leases(tenant), age)

    async def delete(self, tenant: str, file_id: str) -> None:
        """Delete the record first, then the bytes: from the first on the file does not exist. Raises FileNotFound."""
        try:
            record = await self.get_record(tenant, file_id)
        finally:
            if is_content_id(file_id):
                await self._objects.delete(object_paths.file_record(tenant, file_id))
                await self._objects.delete(object_paths.file_bytes(tenant, file_id))
        await self._quota.release(tenant, record.stored_bytes)


def parse_file_record(data: bytes) -> FileRecord:
    raw = orjson.loads(data)
    spacing, left_out = raw["spacing"], raw.get("left_out", {"count": 0, "files": []})
    return FileRecord(
        **{
            **raw,
            "kind": FileKind(raw["kind"]),
            "size": Size(**raw["size"]),
            "spacing": None if spacing is None else tuple(spacing),
            # Records of earlier versions have none of these.
            "options": FileOptions(**raw.get("options", {})),
            "frame_index": parse_frame_index(raw.get("frame_index", {})),
            "contents": tuple(map(parse_content, raw.get("contents", ()))),
            "left_out": LeftOut(left_out["count"], tuple(LeftOutFile(**file) for file in left_out["files"])),
        }
    )


def parse_frame_index(raw: dict[str, Any]) -> FrameIndex:
    entries = raw.get("left_out_entries")
    ranges = None if entries is None else tuple((first, last) for first, last in entries)
    return FrameIndex(raw.get("decoded_count"), ranges)


def parse_content(raw: dict[str, Any]) -> FileContent:
    return FileContent(**{**raw, "size": Size(**raw["size"]), "notes": tuple(raw["notes"])})
