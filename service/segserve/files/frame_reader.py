"""Read single frames and slices of stored files, for people who look through them.

A file is opened at its first frame and stays open for a while, because the next frame is wanted soon. Of a volume the
voxels are held, so that slices along all three axes come from one copy.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from segserve.errors import BadInput, Busy
from segserve.fair_semaphore import FairSemaphore
from segserve.files.file_library import FileLibrary
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import FileView, FrameSource, open_frame_source, view_shape
from segserve.types import FileRecord, UInt8

# Files that are open at the same time. Each holds a process, or the voxels of a volume.
MAX_OPEN_FILES = 4
# How long a file stays open that nobody reads. Shorter than others wait for the memory that it holds.
KEEP_OPEN_S = 15.0
# A frame of another file waits so long for one of the open files to be free.
MAX_WAIT_S = 30.0

# (tenant, file_id)
FileKey = tuple[str, str]


class OpenFile:
    """`OpenFile` reads frames of one file, one at a time.

    resources: closed with it, in threads of `readers`.
    """

    def __init__(self, source: FrameSource, readers: FileReaders, resources: AsyncExitStack) -> None:
        self._source, self._readers, self._resources = source, readers, resources
        self._lock = asyncio.Lock()

    async def read(self, view: FileView, index: int) -> UInt8:
        """Return a frame, RGB [H, W, 3]. A caller that leaves while it waits takes no time of others."""
        async with self._lock:
            reading = asyncio.ensure_future(self._readers.run(self._source.read, view, index))
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:  # not passed on: it would end the process that others read by
                await asyncio.wait([reading])
                if not reading.cancelled():
                    reading.exception()
                raise

    async def close(self) -> None:
        await self._resources.aclose()


@dataclass
class _Entry:
    opening: "asyncio.Task[OpenFile]"
    users: int = 0
    is_broken: bool = False
    timer: asyncio.TimerHandle | None = None


class FrameReader:
    """`FrameReader` reads frames, and closes files that nobody reads any more. Use it from the event loop's thread.

    readers: by which files are opened, with threads of their own.
    """

    def __init__(self, files: FileLibrary, readers: FileReaders) -> None:
        self._files, self._readers = files, readers
        self._entries: dict[FileKey, _Entry] = {}
        self._room = FairSemaphore(MAX_OPEN_FILES)
        self._waiting = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def read(self, tenant: str, record: FileRecord, view: FileView, index: int) -> UInt8:
        """Return frame `index` of a view of the file, RGB [H, W, 3], as jobs see it.

        Raises FileNotFound, BadInput, TooLarge, MissingDependency, Busy, Unavailable.
        """
        count, _ = view_shape(record, view.axis, axis_field="axis", file_field="file_id")
        if not 0 <= index < count:
            raise BadInput(
                f"There is no frame {index} in a file of {count}.",
                field="frame",
                remedy=f"Frames are 0 to {count - 1}.",
            )
        async with self._use((tenant, record.file_id)) as opened:
            return await opened.read(view, index)

    @asynccontextmanager
    async def _use(self, key: FileKey) -> AsyncIterator[OpenFile]:
        entry = self._entries.get(key)
        if entry is None:
            # A task of its own: a viewer that moves on must not cancel what others wait for.
            entry = self._entries[key] = _Entry(asyncio.create_task(self._open(key)))
        entry.users += 1
        if entry.timer is not None:
            entry.timer.cancel()
        try:
            yield await asyncio.shield(entry.opening)
        except Exception:
            entry.is_broken = True  # its process may have ended
            raise
        finally:
            entry.users -= 1
            if not entry.users:
                is_needed = not entry.is_broken and not self._waiting
                delay_s = KEEP_OPEN_S if is_needed else 0.0
                entry.timer = asyncio.get_running_loop().call_later(delay_s, self._start_closing, key, entry)

    async def _open(self, key: FileKey) -> OpenFile:
        tenant, file_id = key
        await self._wait_for_room()
        resources, readers = AsyncExitStack(), self._readers.group()
        try:
            record, path = await resources.enter_async_context(self._files.local_copy(tenant, file_id))
            opening = open_frame_source(record, path, readers)
            source = await readers.run(opening.__enter__)
            resources.push_async_callback(readers.run, opening.__exit__, None, None, None)
        except BaseException:
            readers.kill()
            await resources.aclose()
            self._room.release(1)
            raise
        return OpenFile(source, readers, resources)

    async def _wait_for_room(self) -> None:
        """Take the place of one open file. Raises Busy."""
        idle = next((item for item in self._entries.items() if not item[1].users), None)
        if not self._room.free and idle is not None:
            self._start_closing(*idle)
        self._waiting += 1
        try:
            await self._room.acquire(1, MAX_WAIT_S)
        except TimeoutError:
            raise Busy(
                "Too many files are looked through at the same time.",
                remedy="Try again soon.",
                retry_after_s=10,
            ) from None
        finally:
            self._waiting -= 1

    def _start_closing(self, key: FileKey, entry: _Entry) -> None:
        if entry.users or self._entries.get(key) is not entry:
            return
        del self._entries[key]
        task = asyncio.create_task(self._close(entry))
        self._closing.add(task)  # the event loop holds only weak references to tasks
        task.add_done_callback(self._closing.discard)

    async def _close(self, entry: _Entry) -> None:
        await asyncio.wait([entry.opening])
        if entry.opening.cancelled() or entry.opening.exception() is not None:
            return  # `_open` has given everything back
        try:
            await entry.opening.result().close()
        finally:
            self._room.release(1)

    async def close(self) -> None:
        """Close all files."""
        for entry in list(self._entries.values()):
            entry.opening.cancel()
            if entry.timer is not None:
                entry.timer.cancel()
            task = asyncio.create_task(self._close(entry))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._entries.clear()
        if self._closing:
            await asyncio.wait(self._closing)
