"""`LargeRequests`: requests of megabytes of JSON are worked on one by one, while the garbage collector rests."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segserve.errors import Busy
from segserve.fair_semaphore import FairSemaphore

# From this size on a request is large.
MIN_LARGE_BYTES = 256 << 10
# A large request takes seconds at most.
MAX_WAIT_S = 30.0


class LargeRequests:
    """`LargeRequests` gives turns, in which clients alternate. For one event loop.

    A collection of the oldest generation visits every object and holds Python's lock meanwhile: 0.2 s with the prompts
    of 100,000 images. Such requests form no cycles, so nothing is lost while no collection runs.
    """

    def __init__(self) -> None:
        self._turn = FairSemaphore(1)

    @asynccontextmanager
    async def turn(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold the turn while the block runs, unless the request is small. Raises Busy."""
        if size_bytes < MIN_LARGE_BYTES:
            yield
            return
        try:
            await self._turn.acquire(1, MAX_WAIT_S)
        except TimeoutError:
            raise Busy("Too many large requests.", remedy="Try again soon.", retry_after_s=10) from None
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            self._turn.release(1)
