"""Read the slices of a stored file one at a time, without blocking the event loop."""

import asyncio
import hashlib
from contextlib import AsyncExitStack

from segserve.files.file_library import FileLibrary
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import FileView, open_view
from segserve.files.frames import Frames
from segserve.types import UInt8


class SliceReader:
    """`SliceReader` keeps a view of a file open and reads its slices.

    view_name: the same for the same pixels.
    readers: that the frames were opened by; a cancelled `read` kills them.
    resources: closed with the reader.
    """

    def __init__(
        self, view_name: str, frames: Frames, readers: FileReaders, resources: AsyncExitStack
    ) -> None:
        self._view_name, self._frames, self._readers, self._resources = view_name, frames, readers, resources
        self.count, self.size = frames.count, frames.size
        self._lock = asyncio.Lock()
        self._last: tuple[int, UInt8] | None = None

    @classmethod
    async def open(cls, files: FileLibrary, tenant: str, view: FileView) -> "SliceReader":
        """Open a view of a stored file. Raises FileNotFound, BadInput, TooLarge, MissingDependency."""
        resources, readers = AsyncExitStack(), files.readers.group()
        try:
            record, path = await resources.enter_async_context(files.local_copy(tenant, view.file_id))
            opening = open_view(record, path, readers, view.axis, view.window)
            frames = await readers.run(opening.__enter__)
            resources.push_async_callback(readers.run, opening.__exit__, None, None, None)
        except BaseException:
            readers.kill()
            await resources.aclose()
            raise
        return cls(f"{view.file_id}:{view.axis}:{view.window}", frames, readers, resources)

    def slice_id(self, index: int) -> str:
        """Return the id of a slice, in the form of an image id, which it replaces."""
        return hashlib.sha256(f"{self._view_name}:{index}".encode()).hexdigest()

    async def read(self, index: int) -> UInt8:
        """Return slice `index` as RGB [H, W, 3]. Raises BadInput where it is damaged."""
        async with self._lock:
            # The last slice is kept, because several objects may have prompts on it.
            if self._last is None or self._last[0] != index:
                self._last = index, await self._readers.run(self._frames.read, index)
            return self._last[1]

    async def close(self) -> None:
        async with self._lock:
            await self._resources.aclose()
