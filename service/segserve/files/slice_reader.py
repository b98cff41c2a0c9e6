"""A view of a stored file, held open: slices read one at a time, beside the event loop."""

import asyncio
import hashlib
from contextlib import AsyncExitStack

from segserve.files.file_library import FileLibrary
from segserve.files.file_view import FileView, open_view
from segserve.files.frames import Frames
from segserve.types import UInt8


class SliceReader:
    """name: of the view, the same for the same pixels."""

    def __init__(self, name: str, frames: Frames, held: AsyncExitStack) -> None:
        self._name, self._frames, self._held = name, frames, held
        self.count, self.size = frames.count, frames.size
        self._lock = asyncio.Lock()
        self._last: tuple[int, UInt8] | None = None

    @classmethod
    async def open(cls, files: FileLibrary, tenant: str, view: FileView) -> "SliceReader":
        """Raises FileNotFound, BadInput, TooLarge, MissingDependency."""
        held = AsyncExitStack()
        try:
            record, path = await held.enter_async_context(files.local_copy(tenant, view.file_id))
            opening = open_view(record, path, files.limits, view.axis, view.window)
            frames = await asyncio.to_thread(opening.__enter__)
            held.push_async_callback(asyncio.to_thread, opening.__exit__, None, None, None)
        except BaseException:
            await held.aclose()
            raise
        return cls(f"{view.file_id}:{view.axis}:{view.window}", frames, held)

    def slice_id(self, index: int) -> str:
        """Of a slice: as long as an image's id, which it stands in for."""
        return hashlib.sha256(f"{self._name}:{index}".encode()).hexdigest()

    async def read(self, index: int) -> UInt8:
        """RGB [H, W, 3]. Raises BadInput where it is damaged."""
        async with self._lock:
            if self._last is None or self._last[0] != index:  # several objects may be marked on it
                self._last = index, await asyncio.to_thread(self._frames.read, index)
            return self._last[1]

    async def close(self) -> None:
        async with self._lock:
            await self._held.aclose()
