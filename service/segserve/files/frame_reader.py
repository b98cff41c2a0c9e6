"""Read single frames and slices of stored files, for people who look through them.

A file is opened at its first frame and stays open for a while, because the next frame is wanted soon. Of a volume the
voxels are held, so that slices along all three axes come from one copy.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from segserve.current_client import Client, current_client
from segserve.errors import BadInput, Busy
from segserve.fair_places import FairPlaces
from segserve.files.file_library import FileLibrary
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import FileView, FrameSource, open_frame_source, view_shape
from segserve.memory_budget import MemoryBudget
from segserve.types import FileRecord, Size, UInt8

# Files that are open at the same time. Each holds a process, or the voxels of a volume.
MAX_OPEN_FILES = 4
# How long a file stays open that nobody reads. Shorter than others wait for the memory that it holds.
KEEP_OPEN_S = 15.0
# While others wait, a file that is read all the time stays open so long. Then its readers wait in turn as well.
MAX_TURN_S = 10.0
# A frame of another file waits so long for one of the open files to be free.
MAX_WAIT_S = 30.0
RGB_BYTES = 3

T = TypeVar("T")

# (tenant, file_id)
FileKey = tuple[str, str]


class OpenFile:
    """`OpenFile` reads frames of one file, one at a time.

    client: for whom it was opened, whose place it takes.
    resources: closed with it, in threads of `readers`.
    """

    def __init__(
        self, source: FrameSource, readers: FileReaders, client: Client, resources: AsyncExitStack
    ) -> None:
        self._source, self._readers, self.client, self._resources = source, readers, client, resources
        self._lock = asyncio.Lock()
        self.opened_at = time.monotonic()

    async def convert(
        self,
        view: FileView,
        index: int,
        function: Callable[[UInt8], T],
        memory: MemoryBudget,
        needed_bytes: int,
    ) -> T:
        """Return what a function makes of a frame, RGB [H, W, 3], in the thread that reads it.

        needed_bytes: of the frame and of what is made of it. A caller that leaves while it waits takes no time of
        others.
        """

        def read() -> T:
            return function(self._source.read(view, index))

        async with self._lock, memory.hold(needed_bytes, "file_id"):
            reading = asyncio.ensure_future(self._readers.run(read))
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

    @property
    def opened(self) -> OpenFile | None:
        """The file once it is open."""
        task = self.opening
        return None if not task.done() or task.cancelled() or task.exception() else task.result()


class FrameReader:
    """`FrameReader` reads frames, and closes files that nobody reads any more. Use it from the event loop's thread.

    Clients take turns for the places of open files, and none of them holds more than its share.

    readers: by which files are opened, with threads of their own.
    memory: what a frame, and what is made of it, may take in this process.
    max_client_share: of the open files.
    """

    def __init__(
        self, files: FileLibrary, readers: FileReaders, memory: MemoryBudget, max_client_share: float
    ) -> None:
        self._files, self._readers, self._memory = files, readers, memory
        self._entries: dict[FileKey, _Entry] = {}
        self._places = FairPlaces(MAX_OPEN_FILES, ceil(MAX_OPEN_FILES * max_client_share))
        self._closing: set[asyncio.Task[None]] = set()

    async def convert(
        self,
        tenant: str,
        record: FileRecord,
        view: FileView,
        index: int,
        function: Callable[[UInt8], T],
        extra_bytes: Callable[[Size], int],
    ) -> T:
        """Return what a function makes of frame `index` of a view of the file, RGB [H, W, 3], as jobs see it.

        function: called in a thread. extra_bytes: what it takes beside a frame of a size.

        Raises FileNotFound, BadInput, TooLarge, MissingDependency, Busy, Unavailable.
        """
        count, size = view_shape(record, view.axis, axis_field="axis", file_field="file_id")
        if not 0 <= index < count:
            raise BadInput(
                f"There is no frame {index} in a file of {count}.",
                field="frame",
                remedy=f"Frames are 0 to {count - 1}.",
            )
        needed_bytes = size.height * size.width * RGB_BYTES + extra_bytes(size)
        async with self._use((tenant, record.file_id)) as opened:
            return await opened.convert(view, index, function, self._memory, needed_bytes)

    @asynccontextmanager
    async def _use(self, key: FileKey) -> AsyncIterator[OpenFile]:
        entry = self._entries.get(key)
        if entry is not None and self._turn_is_over(entry):
            self._retire(key, entry)
            entry = None
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
                self._leave(key, entry)

    def _leave(self, key: FileKey, entry: _Entry) -> None:
        """Close a file that nobody reads: soon, or now where others wait for its place."""
        if self._entries.get(key) is not entry:  # its turn was over
            self._start_closing(entry)
            return
        is_kept = entry.opened is not None and not entry.is_broken and not self._is_wanted(entry)
        delay_s = KEEP_OPEN_S if is_kept else 0.0
        entry.timer = asyncio.get_running_loop().call_later(delay_s, self._retire_unused, key, entry)

    def _is_wanted(self, entry: _Entry) -> bool:
        return entry.opened is not None and self._places.is_wanted(entry.opened.client)

    def _turn_is_over(self, entry: _Entry) -> bool:
        opened = entry.opened
        return (
            opened is not None and self._is_wanted(entry) and time.monotonic() - opened.opened_at > MAX_TURN_S
        )

    async def _open(self, key: FileKey) -> OpenFile:
        tenant, file_id = key
        client = await self._take_place()
        resources, readers = AsyncExitStack(), self._readers.group()
        try:
            record, path = await resources.enter_async_context(self._files.local_copy(tenant, file_id))
            opening = open_frame_source(record, path, readers)
            source = await readers.run(opening.__enter__)
            resources.push_async_callback(readers.run, opening.__exit__, None, None, None)
        except BaseException:
            readers.kill()
            await resources.aclose()
            self._places.release(client)
            raise
        return OpenFile(source, readers, client, resources)

    async def _take_place(self) -> Client:
        """Take the place of one open file for the current client, and return the client. Raises Busy."""
        self._close_unused(current_client.get())
        try:
            return await self._places.acquire(MAX_WAIT_S)
        except TimeoutError:
            raise Busy(
                "Too many files are looked through at the same time.",
                remedy="Try again soon.",
                retry_after_s=10,
            ) from None

    def _close_unused(self, client: Client) -> None:
        """Close a file that nobody reads, where the client finds no place otherwise."""
        has_share = self._places.has_share(client)
        if has_share and self._places.has_free:
            return
        for key, entry in self._entries.items():
            opened = entry.opened
            if not entry.users and opened is not None and (has_share or opened.client == client):
                self._retire(key, entry)
                return

    def _retire_unused(self, key: FileKey, entry: _Entry) -> None:
        if not entry.users and self._entries.get(key) is entry:
            self._retire(key, entry)

    def _retire(self, key: FileKey, entry: _Entry) -> None:
        """Let nobody else use an open file. It is closed once nobody does."""
        del self._entries[key]
        if not entry.users:
            self._start_closing(entry)

    def _start_closing(self, entry: _Entry) -> None:
        task = asyncio.create_task(self._close(entry))
        self._closing.add(task)  # the event loop holds only weak references to tasks
        task.add_done_callback(self._closing.discard)

    async def _close(self, entry: _Entry) -> None:
        await asyncio.wait([entry.opening])
        if (opened := entry.opened) is None:
            return  # `_open` has given everything back
        try:
            await opened.close()
        finally:
            self._places.release(opened.client)

    async def close(self) -> None:
        """Close all files."""
        for entry in list(self._entries.values()):
            entry.opening.cancel()
            if entry.timer is not None:
                entry.timer.cancel()
            self._start_closing(entry)
        self._entries.clear()
        if self._closing:
            await asyncio.wait(self._closing)
