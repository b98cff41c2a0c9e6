"""Uploaded images: add, read, delete, expire; a deletion also removes everything derived from the image."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from tempfile import NamedTemporaryFile
from typing import BinaryIO, Protocol, TypeVar, cast

import structlog

from segserve.errors import ImageNotFound, SegserveError
from segserve.images.build_pyramid import PyramidBuilder
from segserve.images.decoded_image import write_decoded_image
from segserve.images.image_source import ImageSource, NeedsSandbox, check_size
from segserve.images.memory_estimate import estimate_read_bytes
from segserve.images.normalise import resolve_mode
from segserve.images.read_image import decode_source, open_image
from segserve.images.region_reader import FULL_RESOLUTION, RegionReader
from segserve.memory_budget import MemoryBudget
from segserve.models.promptable_model import digest_embeddings
from segserve.models.registry import ModelRegistry
from segserve.store.content_id import add_options, hash_content
from segserve.store.expiry import delete_expired
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache
from segserve.temporary_files import translate_disk_full
from segserve.types import ImageLimits, ImageRecord, Normalise, Precision, ReadOptions, Size, UInt8

# Called with (tenant, image_id).
ForgetImage = Callable[[str, str], None]

T = TypeVar("T")

log = structlog.get_logger(__name__)


class ImageSandbox(Protocol):
    """`ImageSandbox` opens images in sandboxed processes; see `files/sandboxed_image.py`."""

    def open_image(
        self, file: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
    ) -> AbstractAsyncContextManager[ImageSource]:
        """Open an image of any format while the block runs. Raises as `read_image.open_image` does."""
        ...


class ImageLibrary:
    """`ImageLibrary` adds, reads and deletes stored images.

    An image that only a sandboxed process may decode is decoded once, when it is added. What is stored is the RGB
    pixels (`decoded_image.py`), which every process reads as it reads other images.

    executor: threads that hash and decode uploads. Stored images are read in those of `reader`.
    pyramid_executor: a thread that cuts large images into tiles, so that no other upload waits for one.
    memory: what decoding may take in this process, and in sandboxed processes for it.
    sandbox: decodes what this process may not.
    forget: called to drop everything that this process holds of a deleted image.
    """

    def __init__(
        self,
        store: ImageStore,
        reader: RegionReader,
        cache: RedisCache,
        registry: ModelRegistry,
        executor: Executor,
        pyramid_executor: Executor,
        memory: MemoryBudget,
        sandbox: ImageSandbox,
        *,
        limits: ImageLimits,
        forget: ForgetImage,
    ) -> None:
        self._store, self._cache, self._registry, self._executor = store, cache, registry, executor
        self._reader, self._pyramid_builder = reader, PyramidBuilder(store, pyramid_executor, memory)
        self._memory, self._sandbox, self._limits, self._forget = memory, sandbox, limits, forget

    async def add(self, tenant: str, file: BinaryIO, options: ReadOptions) -> ImageRecord:
        """Store an image and return its record. An image that is stored already stays as it is.

        The whole image is decoded first, so that an unreadable one is never stored. Raises BadInput, TooLarge, Busy.
        """
        loop = asyncio.get_running_loop()
        digest, file_bytes = await loop.run_in_executor(self._executor, hash_content, file)
        # With AUTO the id depends on the file's depth, so its header is read first.
        with suppress(ImageNotFound):
            return await self._store.get_record(tenant, add_options(digest, options))
        try:
            source = await loop.run_in_executor(self._executor, self._open, file, options)
        except NeedsSandbox:
            known = await self._find_decoded(tenant, digest, options)
            return known or await self._add_by_sandbox(tenant, digest, file_bytes, file, options)
        image_id, options = resolve_image_id(digest, source, options)
        with suppress(ImageNotFound):
            return await self._store.get_record(tenant, image_id)
        if max(source.size.height, source.size.width) > self._limits.tile_above_px:
            await self._store.quota.check_room(tenant, file_bytes, images=1)
            return await self._pyramid_builder.add(tenant, image_id, file, file_bytes, source, options)
        needed_bytes = estimate_read_bytes(source, options)
        size = await self._memory.run(needed_bytes, self._executor, self._decode_to_check, source, options)
        return await self._store.put(
            tenant,
            ImageRecord(
                image_id, size, options, file_bytes, time.time(), page=options.page, pages=source.pages
            ),
            file,
        )

    async def _find_decoded(self, tenant: str, digest: bytes, options: ReadOptions) -> ImageRecord | None:
        """Return the record of an 8-bit image that was stored with AUTO, so that its file need not be opened again."""
        if options.normalise is Normalise.AUTO:
            image_id = add_options(digest, replace(options, normalise=Normalise.NONE))
            with suppress(ImageNotFound):
                record = await self._store.get_record(tenant, image_id)
                return record if record.options.normalise is Normalise.AUTO else None
        return None

    async def _add_by_sandbox(
        self, tenant: str, digest: bytes, file_bytes: int, file: BinaryIO, options: ReadOptions
    ) -> ImageRecord:
        limits, is_auto = self._limits, options.normalise is Normalise.AUTO
        async with self._sandbox.open_image(
            file, options.page, limits.max_pixels, limits.max_tiled_pixels
        ) as source:
            image_id, options = resolve_image_id(digest, source, options)
            with suppress(ImageNotFound):
                return await self._store.get_record(tenant, image_id)
            if max(source.size.height, source.size.width) > limits.tile_above_px:
                await self._store.quota.check_room(tenant, file_bytes, images=1)
                return await self._pyramid_builder.add(tenant, image_id, file, file_bytes, source, options)
            needed_bytes = estimate_read_bytes(source, options)
            with translate_disk_full(), NamedTemporaryFile() as spool:
                decoded = cast(BinaryIO, spool)
                size = await self._memory.run(
                    needed_bytes, self._executor, write_decoded_image, source, options, decoded
                )
                # The options were applied already. AUTO is written down for `_find_decoded`.
                written = ReadOptions(normalise=Normalise.AUTO if is_auto else Normalise.NONE)
                record = ImageRecord(
                    image_id,
                    size,
                    written,
                    spool.tell(),
                    time.time(),
                    page=options.page,
                    pages=source.pages,
                )
                return await self._store.put(tenant, record, decoded)

    def _open(self, file: BinaryIO, options: ReadOptions) -> ImageSource:
        return open_image(file, options.page, self._limits.max_pixels, self._limits.max_tiled_pixels)

    def _decode_to_check(self, source: ImageSource, options: ReadOptions) -> Size:
        """Return the size of the decoded image."""
        check_size(source.size.width, source.size.height, self._limits.max_pixels)
        return Size(*decode_source(source, options).shape[:2])

    async def get_record(self, tenant: str, image_id: str) -> ImageRecord:
        """Return the image's record. Raises ImageNotFound."""
        return await self._store.get_record(tenant, image_id)

    async def prepare_read(self, tenant: str, image_id: str) -> Callable[[], UInt8]:
        """Return a function that reads the image as `read_pixels` does.

        Call it in any thread but the event loop's. Work that waits in a queue holds the function instead of the
        pixels. Raises ImageNotFound.
        """
        record = await self._store.get_record(tenant, image_id)
        loop = asyncio.get_running_loop()
        return lambda: asyncio.run_coroutine_threadsafe(self._reader.read(tenant, record), loop).result()

    async def read_pixels(self, tenant: str, image_id: str, min_side: int = FULL_RESOLUTION) -> UInt8:
        """Return the image as models see it, RGB [H, W, 3].

        min_side: a large image may be returned reduced as long as its longer side keeps this many pixels.

        Raises ImageNotFound, TooLarge, Busy.
        """
        record = await self._store.get_record(tenant, image_id)
        return await self._reader.read(tenant, record, min_side=min_side)

    async def convert_pixels(
        self,
        tenant: str,
        image_id: str,
        function: Callable[[UInt8], T],
        extra_bytes: Callable[[Size], int],
        min_side: int = FULL_RESOLUTION,
    ) -> T:
        """Return what a function makes of the pixels that `read_pixels` returns, as `RegionReader.convert` does.

        Raises ImageNotFound, TooLarge, Busy.
        """
        record = await self._store.get_record(tenant, image_id)
        return await self._reader.convert(
            tenant, record, function, min_side=min_side, extra_bytes=extra_bytes
        )

    async def delete(self, tenant: str, image_id: str) -> None:
        """Delete the image, and its embeddings and masks on every replica.

        Raises ImageNotFound; CacheUnavailable after the image itself is deleted, when its embeddings remain until
        they expire.
        """
        digests = [
            digest_embeddings(bundle, precision)
            for bundle in self._registry.bundles().values()
            for precision in Precision
        ]
        try:
            await self._store.delete(tenant, image_id)
        finally:
            # Also if the image does not exist: an earlier deletion may have met an unavailable cache.
            self._forget(tenant, image_id)
            await self._cache.forget(tenant, image_id, digests)

    async def forget_missing(self, held: set[tuple[str, str]]) -> None:
        """Forget those of the `held` (tenant, image_id) that other replicas deleted without this one noticing."""
        for tenant, image_id in held:
            try:
                await self._store.get_record(tenant, image_id)
            except ImageNotFound:
                self._forget(tenant, image_id)
            except SegserveError as error:
                log.warning("held image not checked", reason=str(error))

    async def expire(self, find_max_age: Callable[[str], timedelta | None], interval_s: float) -> None:
        """Delete images older than their tenant keeps them, every `interval_s` seconds, until cancelled.

        find_max_age: see `delete_expired`.
        """
        await delete_expired(self._store, self.delete, find_max_age, interval_s, kind="image")


def resolve_image_id(digest: bytes, source: ImageSource, options: ReadOptions) -> tuple[str, ReadOptions]:
    """Return the image's id, and its options as they are stored: AUTO of 8-bit values is NONE.

    So the id of an 8-bit image without options is the sha256 of its bytes, and a deeper one that an earlier version
    stored, stretched from its minimum to its maximum, has another id than the same file today.
    """
    resolved = replace(options, normalise=resolve_mode(source.memory.dtype, options.normalise))
    return add_options(digest, resolved), resolved
