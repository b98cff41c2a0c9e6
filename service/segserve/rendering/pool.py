"""The rendering pool: threads of low priority that draw job results, so that clicks go first."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from tempfile import TemporaryFile
from typing import IO, Any

from segserve.bounded_executor import lower_thread_priority
from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import current_client
from segserve.fair_executor import FairExecutor
from segserve.temporary_files import translate_disk_full

# What is read from the file at once, and so held in memory for each client that reads slowly.
SENT_BYTES = 256 << 10


class RenderingPool:
    """`RenderingPool` runs generators of bytes in threads of low priority, one step at a time. Clients take turns.

    threads: steps that run at the same time.
    max_streams: results that are drawn at the same time, taking turns; more than these get Busy.
    max_client_streams: of one client.
    """

    def __init__(self, threads: int, max_streams: int, max_client_streams: int | None = None) -> None:
        self._executor = FairExecutor(threads, "render", initializer=lower_thread_priority)
        self._limit = ConcurrencyLimit(
            max_streams, "Too many results are being drawn.", max_client_slots=max_client_streams
        )

    def slot(self) -> AbstractContextManager[None]:
        """Hold a slot for a whole result, from before its first byte is fetched. Raises Busy."""
        return self._limit.slot(client=current_client.get())

    async def stream(self, parts: Generator[bytes]) -> AsyncGenerator[bytes]:
        """Yield the bytes that the generator yields. Raises what `parts` raises, and StorageFull.

        Parts are made however slowly the caller takes them, and wait in a temporary file: so what the generator holds,
        such as frames and the process that reads them, is given back as soon as all is made. Between two parts other
        streams have their turn. A caller may stop at any part; the generator is then closed.
        """
        with translate_disk_full(), TemporaryFile(buffering=0) as file:
            made = MadeParts(parts, file)
            making = asyncio.create_task(made.make_all(self._executor))
            sent_bytes = 0
            try:
                while True:
                    if sent_bytes < made.made_bytes:
                        part = await asyncio.to_thread(made.read, sent_bytes)
                        sent_bytes += len(part)
                        yield part
                    elif making.done():
                        making.result()
                        return
                    else:
                        await made.wait(making)
            finally:
                making.cancel()
                closing = self._executor.submit(close_generator, made.step, parts)
                await asyncio.shield(asyncio.wrap_future(closing))

    def close(self) -> None:
        """Wait for what runs; drop what waits. Blocks."""
        self._executor.shutdown(cancel_futures=True)


class MadeParts:
    """`MadeParts` is what a generator has yielded so far, in a file.

    made_bytes: how much that is. step: the last step of the generator, which may still run.
    """

    def __init__(self, parts: Generator[bytes], file: IO[bytes]) -> None:
        self._parts, self._file = parts, file
        self.made_bytes = 0
        self.step: Future[int | None] | None = None
        self._has_more = asyncio.Event()

    async def make_all(self, executor: FairExecutor) -> None:
        while True:
            self.step = executor.submit(self._make)
            if (count := await asyncio.wrap_future(self.step)) is None:
                return
            self.made_bytes += count
            if count:
                self._has_more.set()

    def _make(self) -> int | None:
        """Write the next part and return its size, None where there is none. Blocks."""
        if (part := next(self._parts, None)) is None:
            return None
        left, position = memoryview(part), self.made_bytes
        while left:
            count = os.pwrite(self._file.fileno(), left, position)
            left, position = left[count:], position + count
        return len(part)

    async def wait(self, making: "asyncio.Task[None]") -> None:
        """Wait for more bytes, or for the end."""
        more = asyncio.create_task(self._has_more.wait())
        try:
            await asyncio.wait([more, making], return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()
            self._has_more.clear()

    def read(self, position: int) -> bytes:
        """Read from a position on as much as is sent at once. Blocks."""
        return os.pread(self._file.fileno(), min(SENT_BYTES, self.made_bytes - position), position)


def close_generator(step: "Future[Any] | None", parts: Generator[bytes]) -> None:
    """Close the generator once its last step has ended: a step that nobody awaits may still run in another thread."""
    if step is not None:
        wait([step])
    parts.close()
