"""Where what is to be looked at is made: beside the event loop, and behind the clicks."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from segserve.bounded_executor import lower_thread_priority
from segserve.errors import Busy


class RenderingPool:
    """threads: that make something at once, at low priority. most: things being made, in turns; beyond them Busy."""

    def __init__(self, threads: int, most: int) -> None:
        self._executor = ThreadPoolExecutor(threads, "look", initializer=lower_thread_priority)
        self._most, self._taken = most, 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """For whoever wants something made, from before its first byte is fetched. Raises Busy."""
        if self._taken >= self._most:
            raise Busy("Too many results are being drawn.", remedy="Try again soon.", retry_after_s=5)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def stream(self, made: Generator[bytes]) -> AsyncGenerator[bytes]:
        """What the generator yields, but for empty parts: between any two of them others have their turn, and nobody
        needs to want the rest. The next part is made when it is asked for. Raises what `made` raises."""
        step: Future[bytes | None] | None = None
        try:
            while True:
                step = self._executor.submit(next, made, None)
                if (part := await asyncio.wrap_future(step)) is None:
                    return
                if part:
                    yield part
        finally:
            await asyncio.shield(asyncio.wrap_future(self._executor.submit(close_generator, step, made)))

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)


def close_generator(step: "Future[Any] | None", made: Generator[bytes]) -> None:
    """A step that nobody waits for any more may still run, in another thread."""
    if step is not None:
        wait([step])
    made.close()
