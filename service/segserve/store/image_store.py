"""Uploaded images, their tiles and their records, in the object store.

The bytes and a large image's tiles are written first, `record.json` last. An image without a record does not exist.
"""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any, BinaryIO

import orjson

from segserve.errors import ImageNotFound, StorageFull
from segserve.store import object_paths
from segserve.store.content_id import is_content_id
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.types import ImageRecord, Normalise, ReadOptions, Size, Stain, TilePyramid


class ImageStore:
    """`ImageStore` keeps images by tenant and image_id. Ids that are not of this service's form are never made a path.

    quota: that images count to.
    """

    def __init__(self, objects: ObjectStore, quota: Quota) -> None:
        self._objects, self.quota = objects, quota

    async def put(self, tenant: str, record: ImageRecord, file: BinaryIO) -> ImageRecord:
        """Store a checked image. If it exists already, leave it as it is and return its record.

        Raises TooLarge, StorageFull.
        """
        try:
            return await self.get_record(tenant, record.image_id)
        except ImageNotFound:
            pass
        file.seek(0)
        bytes_path = object_paths.image_bytes(tenant, record.image_id)
        async with self.quota.reserve(tenant, record.stored_bytes, images=1):
            await self._objects.put(bytes_path, file)
            try:
                await self._objects.put(
                    object_paths.image_record(tenant, record.image_id), orjson.dumps(asdict(record))
                )
            except StorageFull:
                await self._objects.delete(bytes_path)
                raise
        return record

    async def get_record(self, tenant: str, image_id: str) -> ImageRecord:
        """Raises ImageNotFound."""
        if not is_content_id(image_id):
            raise ImageNotFound(image_id)
        return parse_image_record(await self._get(object_paths.image_record(tenant, image_id), image_id))

    async def read(self, tenant: str, image_id: str) -> bytes:
        """Return the bytes as they were uploaded. Raises ImageNotFound."""
        return await self._get(object_paths.image_bytes(tenant, image_id), image_id)

    async def download(self, tenant: str, image_id: str, target: BinaryIO) -> None:
        """Write the bytes, as they were uploaded, to `target`. Raises ImageNotFound."""
        parts = await self._objects.stream(object_paths.image_bytes(tenant, image_id))
        if parts is None:
            raise ImageNotFound(image_id)
        async for part in parts:
            target.write(part)

    def write_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int, data: bytes
    ) -> None:
        """Write one tile. Blocks: call it in a thread."""
        path = object_paths.image_tile(tenant, image_id, folder, level, row, column)
        self._objects.put_blocking(path, data)

    async def read_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int
    ) -> bytes:
        """Raises ImageNotFound."""
        path = object_paths.image_tile(tenant, image_id, folder, level, row, column)
        return await self._get(path, image_id)

    async def delete_tiles(self, tenant: str, image_id: str, folder: str = "") -> None:
        """Delete one set of tiles, or all sets of the image if no folder is given."""
        listed = await self._objects.list(object_paths.image_tiles(tenant, image_id) + folder)
        await self._objects.delete([stored.path for stored in listed])

    async def measure_tiles(self, tenant: str, image_id: str, folder: str) -> int:
        """Return the bytes that a set of tiles takes in the store."""
        listed = await self._objects.list(object_paths.image_tiles(tenant, image_id) + folder)
        return sum(stored.size for stored in listed)

    async def _get(self, path: str, image_id: str) -> bytes:
        data = await self._objects.get(path)
        if data is None:
            raise ImageNotFound(image_id)
        return data

    async def delete(self, tenant: str, image_id: str) -> None:
        """Delete the record first, then bytes and tiles: from the first on the image does not exist.

        Raises ImageNotFound if it did not exist, after bytes that an interrupted deletion left are gone too.
        """
        try:
            record = await self.get_record(tenant, image_id)
        except ImageNotFound:
            if is_content_id(image_id):
                await self._objects.delete(object_paths.image_bytes(tenant, image_id))
                await self.delete_tiles(tenant, image_id)
            raise
        await self._objects.delete(object_paths.image_record(tenant, image_id))
        await self._objects.delete(object_paths.image_bytes(tenant, image_id))
        await self.delete_tiles(tenant, image_id)
        await self.quota.release(tenant, record.stored_bytes, images=1)

    async def list_tenants(self) -> list[str]:
        """Return the tenants that have stored anything."""
        return await list_tenants(self._objects)

    async def list_older_than(self, tenant: str, age: timedelta) -> list[str]:
        """Return the ids of images uploaded longer ago than `age`, and of bytes that lost their record."""
        limit, folder = time.time() - age.total_seconds(), object_paths.images(tenant)
        listed = await self._objects.list(folder)
        old_paths = [stored.path.removeprefix(folder) for stored in listed if stored.modified < limit]
        return sorted({path.partition("/")[0] for path in old_paths})


def parse_image_record(data: bytes) -> ImageRecord:
    raw = orjson.loads(data)
    channels = raw["options"]["channels"]
    options = ReadOptions(
        page=raw["options"]["page"],
        channels=None if channels is None else tuple(channels),
        normalise=Normalise(raw["options"]["normalise"]),
        stain=Stain(stain) if (stain := raw["options"].get("stain")) else None,
        invert=raw["options"].get("invert", False),
    )
    return ImageRecord(
        image_id=raw["image_id"],
        size=Size(**raw["size"]),
        options=options,
        stored_bytes=raw["stored_bytes"],
        created_at=raw["created_at"],
        tiles=parse_tile_pyramid(raw.get("tiles")),
        page=raw.get("page", raw["options"]["page"]),
        pages=raw.get("pages", 1),  # earlier versions did not count them
    )


def parse_tile_pyramid(raw: dict[str, Any] | None) -> TilePyramid | None:
    return None if raw is None else TilePyramid(**{**raw, "size": Size(**raw["size"])})
