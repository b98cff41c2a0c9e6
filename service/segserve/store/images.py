"""Uploaded images and what is known of them, in the object store: they survive everything.

`bytes`, and a large image's tiles, are written first and `record.json` last; an image without a record does not
exist.
"""

import asyncio
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import obstore
import orjson
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from segserve.errors import BadInput, ImageNotFound, TooLarge, Unavailable
from segserve.store import keys
from segserve.types import ImageRecord, Normalise, ReadOptions, Size, TiledAs

QUOTA_REFRESH_S = 60.0
READ_CHUNK = 1 << 20
STORE_ERRORS = (OSError, BaseError)  # obstore's own errors are no OSErrors


def open_store(url: str | None, folder: Path) -> ObjectStore:
    """`url` such as s3://bucket/prefix, or the local folder when there is none. Raises BadInput."""
    if url is not None:
        try:
            return from_url(url)
        except (ValueError, *STORE_ERRORS) as error:
            raise BadInput(
                f"The object store {url!r} cannot be used: {str(error).splitlines()[0]}.",
                field="object_store",
                remedy="Set SEGSERVE_OBJECT_STORE to a URL such as s3://bucket/prefix.",
            ) from None
    folder.mkdir(parents=True, exist_ok=True)
    return obstore.store.LocalStore(folder, automatic_cleanup=True)


class ImageStore:
    """Every path is made here from a tenant and an image id that this service computed or checked."""

    def __init__(self, store: ObjectStore, quota_bytes: int) -> None:
        self._store, self._quota = store, quota_bytes
        self._used: dict[str, tuple[float, int]] = {}

    async def put(self, tenant: str, record: ImageRecord, file: BinaryIO) -> ImageRecord:
        """Store a read and checked image. One that exists already stays as it is and is returned."""
        try:
            return await self.record(tenant, record.image_id)
        except ImageNotFound:
            pass
        await self.check_quota(tenant, record.stored_bytes)
        file.seek(0)
        try:
            await obstore.put_async(self._store, keys.image_bytes(tenant, record.image_id), file)
            path = keys.image_record(tenant, record.image_id)
            await obstore.put_async(self._store, path, orjson.dumps(asdict(record)))
        except STORE_ERRORS as error:
            raise Unavailable("The image could not be stored.", remedy="Check the object store.") from error
        self._count(tenant, record.stored_bytes)
        return record

    async def record(self, tenant: str, image_id: str) -> ImageRecord:
        """Raises ImageNotFound."""
        if not is_image_id(image_id):
            raise ImageNotFound(image_id)
        return parse_record(await self._get(keys.image_record(tenant, image_id), image_id))

    async def read(self, tenant: str, image_id: str) -> bytes:
        """The bytes as they were uploaded. Raises ImageNotFound."""
        return await self._get(keys.image_bytes(tenant, image_id), image_id)

    async def download(self, tenant: str, image_id: str, into: BinaryIO) -> None:
        """As `read`, in parts, into a file."""
        try:
            answer = await obstore.get_async(self._store, keys.image_bytes(tenant, image_id))
            async for part in answer.stream(READ_CHUNK):
                into.write(part)
        except FileNotFoundError:
            raise ImageNotFound(image_id) from None
        except STORE_ERRORS as error:
            raise Unavailable("The object store cannot be reached.") from error

    def write_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int, data: bytes
    ) -> None:
        """Blocks: call it in a thread."""
        try:
            obstore.put(self._store, keys.image_tile(tenant, image_id, folder, level, row, column), data)
        except STORE_ERRORS as error:
            raise Unavailable("The image could not be stored.", remedy="Check the object store.") from error

    async def read_tile(
        self, tenant: str, image_id: str, folder: str, level: int, row: int, column: int
    ) -> bytes:
        """Raises ImageNotFound."""
        return await self._get(keys.image_tile(tenant, image_id, folder, level, row, column), image_id)

    async def remove_tiles(self, tenant: str, image_id: str, folder: str = "") -> None:
        """Those of one set, or of all that were made of an image."""
        prefix = keys.image_tiles(tenant, image_id) + folder
        paths = [path for path, _, _ in await self._list(prefix)]
        try:
            if paths:
                await obstore.delete_async(self._store, paths)
        except FileNotFoundError:
            pass
        except STORE_ERRORS as error:
            raise Unavailable("The image could not be deleted whole.", remedy="Delete it again.") from error

    async def tile_bytes(self, tenant: str, image_id: str, folder: str) -> int:
        """Of a set of tiles, as they lie in the store."""
        return sum(size for _, _, size in await self._list(keys.image_tiles(tenant, image_id) + folder))

    async def _get(self, path: str, image_id: str) -> bytes:
        try:
            answer = await obstore.get_async(self._store, path)
            return bytes(await answer.bytes_async())
        except FileNotFoundError:
            raise ImageNotFound(image_id) from None
        except STORE_ERRORS as error:
            raise Unavailable("The object store cannot be reached.") from error

    async def delete(self, tenant: str, image_id: str) -> None:
        """The record goes first: from then on the image does not exist. Raises ImageNotFound where it did
        not exist before, but not before bytes that an interrupted deletion left are gone too."""
        try:
            record = await self.record(tenant, image_id)
        except ImageNotFound:
            if is_image_id(image_id):
                await self._remove(keys.image_bytes(tenant, image_id))
                await self.remove_tiles(tenant, image_id)
            raise
        await self._remove(keys.image_record(tenant, image_id))
        await self._remove(keys.image_bytes(tenant, image_id))
        await self.remove_tiles(tenant, image_id)
        self._count(tenant, -record.stored_bytes)

    async def _remove(self, path: str) -> None:
        try:
            await obstore.delete_async(self._store, path)
        except FileNotFoundError:
            pass
        except STORE_ERRORS as error:
            raise Unavailable("The image could not be deleted whole.", remedy="Delete it again.") from error

    async def older_than(self, tenant: str, age: timedelta) -> list[str]:
        """Ids of the images uploaded longer ago than `age`, and of bytes that lost their record."""
        limit = time.time() - age.total_seconds()
        folder = keys.images(tenant)
        found = [path.removeprefix(folder) for path, at, _ in await self._list(folder) if at < limit]
        return sorted({path.partition("/")[0] for path in found})

    async def used_bytes(self, tenant: str) -> int:
        """What the tenant's images take; listed at most once a minute and counted along between."""
        at, used = self._used.get(tenant, (float("-inf"), 0))
        if time.monotonic() - at > QUOTA_REFRESH_S:
            used = sum(size for _, _, size in await self._list(keys.images(tenant)))
            self._used[tenant] = (time.monotonic(), used)
        return used

    async def _list(self, prefix: str) -> list[tuple[str, float, int]]:
        def run() -> list[tuple[str, float, int]]:
            return [
                (entry["path"], entry["last_modified"].timestamp(), entry["size"])
                for page in obstore.list(self._store, prefix)
                for entry in page
            ]

        try:
            return await asyncio.to_thread(run)
        except STORE_ERRORS as error:
            raise Unavailable("The object store cannot be listed.") from error

    def _count(self, tenant: str, change: int) -> None:
        if tenant in self._used:
            at, used = self._used[tenant]
            self._used[tenant] = (at, used + change)

    async def check_quota(self, tenant: str, more: int) -> None:
        """Raises TooLarge."""
        if self._quota and await self.used_bytes(tenant) + more > self._quota:
            raise TooLarge(
                f"The image would exceed the storage quota of {self._quota // 1_000_000} MB.",
                field="file",
                remedy="Delete images with DELETE /v1/images/{image_id}, or ask for a larger quota.",
            )


def is_image_id(text: str) -> bool:
    """A sha256 in small hexadecimal digits, as `image_id` of an upload's answer."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def parse_record(data: bytes) -> ImageRecord:
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


def parse_tiles(raw: dict[str, Any] | None) -> TiledAs | None:
    return None if raw is None else TiledAs(**{**raw, "size": Size(**raw["size"])})
