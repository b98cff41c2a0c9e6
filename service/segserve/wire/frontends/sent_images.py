"""Images that clients send with every click, recognised by their hash.

An upload is idempotent by its content. But to find that out it is decoded from base64, hashed, and the head of its file
is read. Here the text is hashed as it comes, and that is all for an image which was sent before.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, TypeVar, cast

import numpy as np
import tifffile
from cachetools import LRUCache

from segserve.app import Service
from segserve.errors import BadInput, ImageNotFound
from segserve.identity.identity import current_tenant
from segserve.store.content_id import hash_content
from segserve.temporary_files import translate_disk_full
from segserve.types import ImageRecord, ReadOptions, UInt8
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES, SPOOL_BYTES

# Each takes some hundred bytes.
MAX_REMEMBERED = 4096

T = TypeVar("T")


class SentImages:
    """`SentImages` stores the images of requests, each once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # image_id by (tenant, sha256 of what was sent).
        self._image_ids: LRUCache[tuple[str, bytes], str] = LRUCache(MAX_REMEMBERED)

    async def store_base64(self, text: str, field: str) -> ImageRecord:
        """Store an image that came as base64, also of a data URL (data:image/png;base64,...).

        field: of the request, which holds the text. Raises BadInput, and what `ImageLibrary.add` raises.
        """
        return await self._store(text.encode(), lambda: decode_base64(text, field))

    async def store_bytes(self, data: bytes) -> ImageRecord:
        """Store an image file. Raises what `ImageLibrary.add` raises."""
        return await self._store(data, lambda: data)

    async def store_file(self, file: BinaryIO) -> ImageRecord:
        """Store an image file, which is never in memory as a whole. Raises what `ImageLibrary.add` raises."""
        key, _ = await asyncio.to_thread(hash_content, file)
        if (record := await self._find(key)) is not None:
            return record
        return self._remember(key, await self._service.images.add(current_tenant(), file, ReadOptions()))

    async def store_pixels(self, pixels: UInt8) -> ImageRecord:
        """Store an image that is no file. The same pixels are the same image, whichever frontend they come by.

        pixels: [H, W, 3] RGB or [H, W] grey. They may be those of a mapped file. Raises what `ImageLibrary.add` raises.
        """
        images = self._service.images
        key = await run_if_large(pixels.nbytes, lambda: hash_pixels(pixels))
        if (record := await self._find(key)) is not None:
            return record
        with translate_disk_full(), SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await run_if_large(pixels.nbytes, lambda: write_tiff(pixels, file))
            return self._remember(key, await images.add(current_tenant(), file, ReadOptions()))

    async def _store(self, sent: bytes, read: Callable[[], bytes]) -> ImageRecord:
        key = await run_if_large(len(sent), lambda: sha256(sent).digest())
        if (record := await self._find(key)) is not None:
            return record
        data = await run_if_large(len(sent), read)
        return self._remember(
            key, await self._service.images.add(current_tenant(), BytesIO(data), ReadOptions())
        )

    async def _find(self, digest: bytes) -> ImageRecord | None:
        """Return the image that was stored for what has this digest."""
        if (image_id := self._image_ids.get((current_tenant(), digest))) is not None:
            with suppress(ImageNotFound):  # it was deleted: it is stored again
                record = await self._service.images.get_record(current_tenant(), image_id)
                self._service.metrics.frontends.count_image(recognised=True)
                return record
        return None

    def _remember(self, digest: bytes, record: ImageRecord) -> ImageRecord:
        self._image_ids[current_tenant(), digest] = record.image_id
        self._service.metrics.frontends.count_image(recognised=False)
        return record


async def run_if_large(size_bytes: int, work: Callable[[], T]) -> T:
    """Return what `work` returns. It runs in a thread where it works on much."""
    return work() if size_bytes <= MAX_EVENT_LOOP_JSON_BYTES else await asyncio.to_thread(work)


def hash_pixels(pixels: UInt8) -> bytes:
    """Return the sha256 of pixels and their shape."""
    digest = sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def write_tiff(pixels: UInt8, file: BinaryIO) -> None:
    """Write an uncompressed TIFF, and go back to its begin: the fastest file to write and to read."""
    named = tifffile.FileHandle(file, name="pixels.tif")  # a spooled file has no name, and tifffile wants one
    tifffile.imwrite(named, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    file.seek(0)


def decode_base64(text: str, field: str) -> bytes:
    """Decode base64, or a data URL that holds it. Raises BadInput about `field`."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise BadInput("It is not the base64 of a file.", field=field, remedy="Send an image file as base64.")
    return data
