"""The rendering pool: threads of low priority that draw job results, so that clicks go first."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from segserve.bounded_executor import lower_thread_priority
from segserve.concurrency_limit import ConcurrencyLimit


class RenderingPool:
    """`RenderingPool` runs generators of bytes in threads of low priority, one step at a time.

    threads: steps that run at the same time.
    max_streams: results that are drawn at the same time, taking turns; more than these get Busy.
    """

    def __init__(self, threads: int, max_streams: int) -> None:
        self._executor = ThreadPoolExecutor(threads, "render", initializer=lower_thread_priority)
        self._limit = ConcurrencyLimit(max_streams, "Too many results are being drawn.")

    def slot(self) -> AbstractContextManager[None]:
        """Hold a slot for a whole result, from before its first byte is fetched. Raises Busy."""
        return self._limit.slot()

    async def stream(self, parts: Generator[bytes]) -> AsyncGenerator[bytes]:
        """Yield what the generator yields, without empty parts. Raises what `parts` raises.

        The next part is made when the caller asks for it. Between two parts other streams have their turn. A caller
        may stop at any part; the generator is then closed.
        """
        step: Future[bytes | None] | None = None
        try:
            while True:
                step = self._executor.submit(next, parts, None)
                if (part := await asyncio.wrap_future(step)) is None:
                    return
                if part:
                    yield part
        finally:
            await asyncio.shield(asyncio.wrap_future(self._executor.submit(close_generator, step, parts)))

    def close(self) -> None:
        """Wait for what runs; drop what waits. Blocks."""
        self._executor.shutdown(cancel_futures=True)


def close_generator(step: "Future[Any] | None", parts: Generator[bytes]) -> None:
    """Close the generator once its last step has ended: a step that nobody awaits may still run in another thread."""
    if step is not None:
        wait([step])
    parts.close()
