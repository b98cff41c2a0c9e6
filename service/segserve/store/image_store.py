"""Uploaded images and what is known of them, in the object store: they survive everything.

`bytes`, and a large image's tiles, are written first and `record.json` last; an image without a record does not
exist.
"""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any, BinaryIO

import orjson

from segserve.errors import ImageNotFound, StorageFull
from segserve.store import keys
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.types import ImageRecord, Normalise, ReadOptions, Size, TilePyramid


class ImageStore:
    """Every path is made here from a tenant and an image id that this service computed or checked."""

    def __init__(self, objects: ObjectStore, quota_bytes: int) -> None:
        self._objects, self.quota = objects, Quota(objects, quota_bytes)

    async def put(self, tenant: str, record: ImageRecord, file: BinaryIO) -> ImageRecord:
        """Store a read and checked image. One that exists already stays as it is and is returned. Raises TooLarge,
        StorageFull."""
        try:
            return await self.get_record(tenant, record.image_id)
        except ImageNotFound:
            pass
        file.seek(0)
        async with self.quota.reserve(tenant, record.stored_bytes):
            await self._objects.put(keys.image_bytes(tenant, record.image_id), file)
            try:
                await self._objects.put(
                    keys.image_record(tenant, record.image_id), orjson.dumps(asdict(record))
                )
            except StorageFull:
                await self._objects.delete(keys.image_bytes(tenant, record.image_id))
                raise
        return record

    async def get_record(self, tenant: str, image_id: str) -> ImageRecord:
        """Raises ImageNotFound."""
        if not is_sha256(image_id):
            raise ImageNotFound(image_id)
        return parse_image_record(await self._get(keys.image_record(tenant, image_id), image_id))

    async def read(self, tenant: str, image_id: str) -> bytes:
        """The bytes as they were uploaded. Raises ImageNotFound."""
        return await self._get(keys.image_bytes(tenant, image_id), image_id)

    async def download(self, tenant: str, image_id: str, into: BinaryIO) -> None:
        """As `read`, in parts, into a file."""
        parts = await self._objects.stream(keys.image_bytes(tenant, image_id))
        if parts is None:
            raise ImageNotFound(image_id)
        async for part in parts:
            into.write(part)

    def write_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int, data: bytes
    ) -> None:
        """Blocks: call it in a thread."""
        self._objects.put_blocking(keys.image_tile(tenant, image_id, folder, level, row, column), data)

    async def read_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int
    ) -> bytes:
        """Raises ImageNotFound."""
        return await self._get(keys.image_tile(tenant, image_id, folder, level, row, column), image_id)

    async def delete_tiles(self, tenant: str, image_id: str, folder: str = "") -> None:
        """Those of one set, or of all that were made of an image."""
        prefix = keys.image_tiles(tenant, image_id) + folder
        await self._objects.delete([entry.path for entry in await self._objects.list(prefix)])

    async def measure_tiles(self, tenant: str, image_id: str, folder: str) -> int:
        """Of a set of tiles, as they lie in the store."""
        return sum(
            entry.size for entry in await self._objects.list(keys.image_tiles(tenant, image_id) + folder)
        )

    async def _get(self, path: str, image_id: str) -> bytes:
        data = await self._objects.get(path)
        if data is None:
            raise ImageNotFound(image_id)
        return data

    async def delete(self, tenant: str, image_id: str) -> None:
        """The record goes first: from then on the image does not exist. Raises ImageNotFound where it did
        not exist before, but not before bytes that an interrupted deletion left are gone too."""
        try:
            record = await self.get_record(tenant, image_id)
        except ImageNotFound:
            if is_sha256(image_id):
                await self._objects.delete(keys.image_bytes(tenant, image_id))
                await self.delete_tiles(tenant, image_id)
            raise
        await self._objects.delete(keys.image_record(tenant, image_id))
        await self._objects.delete(keys.image_bytes(tenant, image_id))
        await self.delete_tiles(tenant, image_id)
        self.quota.adjust(tenant, -record.stored_bytes)

    async def list_older_than(self, tenant: str, age: timedelta) -> list[str]:
        """Ids of the images uploaded longer ago than `age`, and of bytes that lost their record."""
        limit = time.time() - age.total_seconds()
        folder = keys.images(tenant)
        listed = await self._objects.list(folder)
        found = [entry.path.removeprefix(folder) for entry in listed if entry.modified < limit]
        return sorted({path.partition("/")[0] for path in found})


def is_sha256(text: str) -> bool:
    """A sha256 in small hexadecimal digits, as `image_id` of an upload's answer."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def parse_image_record(data: bytes) -> ImageRecord:
    raw = orjson.loads(data)
    channels = raw["options"]["channels"]
    options = ReadOptions(
        page=raw["options"]["page"],
        channels=None if channels is None else tuple(channels),
        normalise=Normalise(raw["options"]["normalise"]),
    )
    return ImageRecord(
        image_id=raw["image_id"],
        size=Size(**raw["size"]),
        options=options,
        stored_bytes=raw["stored_bytes"],
        created_at=raw["created_at"],
        tiles=parse_tiles(raw.get("tiles")),
    )


def parse_tiles(raw: dict[str, Any] | None) -> TilePyramid | None:
    return None if raw is None else TilePyramid(**{**raw, "size": Size(**raw["size"])})
