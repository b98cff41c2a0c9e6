"""Taking in a large image: read in bands, cut into tiles, stored; with nothing left behind where that fails."""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import BinaryIO

import structlog

from segserve.errors import ImageNotFound, SegserveError, Unavailable
from segserve.images import tile_pyramid
from segserve.images.image_source import ImageSource
from segserve.images.orientation import oriented_size
from segserve.store.image_store import ImageStore
from segserve.types import ImageRecord, ReadOptions, TilePyramid

log = structlog.get_logger(__name__)


class PyramidBuilder:
    """workers: threads, of which one is taken at a time: what is read meanwhile takes some hundred MB."""

    def __init__(self, store: ImageStore, workers: Executor) -> None:
        self._store, self._workers = store, workers
        self._turn = asyncio.Lock()
        self._undoing: set[asyncio.Task[None]] = set()

    async def add(
        self,
        tenant: str,
        image_id: str,
        file: BinaryIO,
        nbytes: int,
        source: ImageSource,
        options: ReadOptions,
    ) -> ImageRecord:
        """The record of an image of `nbytes` bytes, then stored with its tiles. Each set of tiles has a folder of
        its own, so that of two uploads of the same image none can spoil the other's. Raises BadInput, TooLarge,
        Unavailable."""
        async with self._turn:
            with suppress(ImageNotFound):  # another upload of it was before this one
                return await self._store.get_record(tenant, image_id)
            folder, stop = secrets.token_hex(8), threading.Event()
            cut = self._cut(tenant, image_id, folder, source, options, stop)
            work = asyncio.get_running_loop().run_in_executor(self._workers, cut)
            try:
                channels, levels, more = await asyncio.shield(work)
                tiles = TilePyramid(folder, source.size, channels, levels, source.orientation)
                size = oriented_size(source.size, source.orientation)
                record = ImageRecord(image_id, size, options, nbytes + more, time.time(), tiles)
                stored = await self._store.put(tenant, record, file)
                if (
                    stored.tiles == tiles
                    and await self._store.measure_tiles(tenant, image_id, folder) != more
                ):
                    raise Unavailable("The image was deleted while it was stored.", remedy="Send it again.")
            except BaseException:  # also where the client hung up: the thread is then still at work
                stop.set()
                await asyncio.shield(self._begin_undo(tenant, image_id, folder, work))
                raise
            if stored.tiles != tiles:  # another replica was quicker
                await self._begin_undo(tenant, image_id, folder, work)
            return stored

    def _cut(
        self,
        tenant: str,
        image_id: str,
        folder: str,
        source: ImageSource,
        options: ReadOptions,
        stop: threading.Event,
    ) -> Callable[[], tuple[int, int, int]]:
        """Work for a thread, which answers (channels, levels, bytes of the tiles)."""

        def run() -> tuple[int, int, int]:
            written = 0

            def put(level: int, row: int, column: int, data: bytes) -> None:
                nonlocal written
                if stop.is_set():
                    raise Unavailable("The upload was given up.")
                self._store.write_tile(tenant, image_id, folder, level, row, column, data)
                written += len(data)

            channels, levels = tile_pyramid.write_pyramid(source, options, put)
            return channels, levels, written

        return run

    def _begin_undo(
        self, tenant: str, image_id: str, folder: str, work: "asyncio.Future[tuple[int, int, int]]"
    ) -> "asyncio.Task[None]":
        async def undo() -> None:
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # raised where it was waited for
            try:
                with suppress(ImageNotFound):  # a record of tiles that go, goes first
                    found = (await self._store.get_record(tenant, image_id)).tiles
                    if found is not None and found.folder == folder:
                        await self._store.delete(tenant, image_id)
                await self._store.delete_tiles(tenant, image_id, folder)
            except SegserveError as error:
                log.warning("tiles left behind", image_id=image_id, reason=str(error))

        task = asyncio.create_task(undo())
        self._undoing.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._undoing.discard)
        return task
