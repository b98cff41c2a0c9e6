"""Store a large image: read it in bands, cut it into a tile pyramid, and leave nothing behind where that fails."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from typing import BinaryIO

import structlog

from segserve.errors import Busy, ImageNotFound, SegserveError, Unavailable
from segserve.images import tile_pyramid
from segserve.images.image_source import ImageSource
from segserve.images.memory_estimate import estimate_pyramid_bytes
from segserve.images.orientation import oriented_size
from segserve.memory_budget import MemoryBudget, return_freed_memory
from segserve.store.image_store import ImageStore
from segserve.types import ImageRecord, ReadOptions, TilePyramid

log = structlog.get_logger(__name__)

# How long an upload waits for the large images before it; each takes up to some minutes.
MAX_TURN_WAIT_S = 300.0

# (channels, levels, bytes of all tiles)
Written = tuple[int, int, int]


class PyramidBuilder:
    """`PyramidBuilder` cuts large images into tiles, one image at a time.

    executor: threads, of which one is used at a time.
    memory: what decoding may take in this process.
    """

    def __init__(self, store: ImageStore, executor: Executor, memory: MemoryBudget) -> None:
        self._store, self._executor, self._memory = store, executor, memory
        self._one_at_a_time = asyncio.Lock()
        self._undo_tasks: set[asyncio.Task[None]] = set()

    async def add(
        self,
        tenant: str,
        image_id: str,
        file: BinaryIO,
        file_bytes: int,
        source: ImageSource,
        options: ReadOptions,
    ) -> ImageRecord:
        """Store an image with its tiles and return its record.

        file_bytes: size of `file`.

        Every call writes its tiles to a folder of its own, so two uploads of the same image cannot spoil each
        other's tiles. Raises BadInput, TooLarge, Busy, Unavailable.
        """
        needed_bytes = estimate_pyramid_bytes(source, options)
        self._memory.check(needed_bytes)
        async with self._take_turn():
            with suppress(ImageNotFound):  # an earlier upload of the same image may have finished meanwhile
                return await self._store.get_record(tenant, image_id)
            folder, stop = secrets.token_hex(8), threading.Event()
            write_tiles = self._make_writer(tenant, image_id, folder, source, options, stop)
            release = await self._memory.acquire(needed_bytes)
            writing = asyncio.get_running_loop().run_in_executor(self._executor, write_tiles)
            writing.add_done_callback(lambda _: release())
            try:
                channels, levels, tile_bytes = await asyncio.shield(writing)
                tiles = TilePyramid(folder, source.size, channels, levels, source.orientation)
                size = oriented_size(source.size, source.orientation)
                record = ImageRecord(
                    image_id,
                    size,
                    options,
                    file_bytes + tile_bytes,
                    time.time(),
                    tiles,
                    page=options.page,
                    pages=source.pages,
                )
                stored = await self._store.put(tenant, record, file)
                if (
                    stored.tiles == tiles
                    and await self._store.measure_tiles(tenant, image_id, folder) != tile_bytes
                ):
                    raise Unavailable("The image was deleted while it was stored.", remedy="Send it again.")
            except BaseException:  # also where the client disconnected: the thread then still writes
                stop.set()
                await asyncio.shield(self._start_undo(tenant, image_id, folder, writing))
                raise
            if stored.tiles != tiles:  # another replica stored the image first
                await self._start_undo(tenant, image_id, folder, writing)
            return stored

    @asynccontextmanager
    async def _take_turn(self) -> AsyncIterator[None]:
        """Wait until no other large image is stored. Raises Busy."""
        try:
            async with asyncio.timeout(MAX_TURN_WAIT_S):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise Busy(
                "Too many large images are stored at the same time.", remedy="Try again.", retry_after_s=60
            ) from None
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def _make_writer(
        self,
        tenant: str,
        image_id: str,
        folder: str,
        source: ImageSource,
        options: ReadOptions,
        stop: threading.Event,
    ) -> Callable[[], Written]:
        """Return a function for a thread that writes all tiles, until `stop` is set."""

        def write_tiles() -> Written:
            written_bytes = 0

            def write_tile(level: int, row: int, column: int, data: bytes) -> None:
                nonlocal written_bytes
                if stop.is_set():
                    raise Unavailable("The upload was given up.")
                self._store.write_tile(tenant, image_id, folder, level, row, column, data)
                written_bytes += len(data)

            try:
                channels, levels = tile_pyramid.write_pyramid(source, options, write_tile)
            finally:
                return_freed_memory()
            return channels, levels, written_bytes

        return write_tiles

    def _start_undo(
        self, tenant: str, image_id: str, folder: str, writing: "asyncio.Future[Written]"
    ) -> "asyncio.Task[None]":
        """Delete the folder's tiles once `writing` has ended, and first the record that names them."""

        async def undo() -> None:
            await asyncio.wait([writing])
            if not writing.cancelled():
                writing.exception()  # retrieved, so that asyncio does not log it: `add` has raised it already
            try:
                with suppress(ImageNotFound):
                    tiles = (await self._store.get_record(tenant, image_id)).tiles
                    if tiles is not None and tiles.folder == folder:
                        await self._store.delete(tenant, image_id)
                await self._store.delete_tiles(tenant, image_id, folder)
            except SegserveError as error:
                log.warning("tiles left behind", image_id=image_id, reason=str(error))

        task = asyncio.create_task(undo())
        self._undo_tasks.add(task)  # the event loop holds only weak references to tasks
        task.add_done_callback(self._undo_tasks.discard)
        return task
