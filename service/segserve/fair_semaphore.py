"""`FairSemaphore`: a weighted semaphore for an event loop, for which clients wait in turn."""

import asyncio
from contextlib import suppress

from segserve.current_client import current_client
from segserve.fair_queue import FairQueue


class FairSemaphore:
    """`FairSemaphore` gives units. While there are too few, tenants and clients take turns (`FairQueue`), and of each
    client the first request is first. The request whose turn it is waits until it fits: large ones are not starved."""

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self._waiting: FairQueue[tuple[int, asyncio.Future[None]]] = FairQueue()

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def acquire(self, units: int, max_wait_s: float) -> None:
        """Take units. Raises TimeoutError."""
        if not self._waiting and units <= self.free:
            self.free -= units
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client, entry = current_client.get(), (units, granted)
        self._waiting.put(client, entry)
        try:
            async with asyncio.timeout(max_wait_s):
                await granted
        except BaseException:  # also where the caller was cancelled
            if granted.done() and not granted.cancelled():
                self.free += units
            else:
                with suppress(KeyError, ValueError):  # `_grant` may have come by before us
                    self._waiting.remove(client, entry)
            self._grant()
            raise

    def release(self, units: int) -> None:
        self.free += units
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            units, granted = self._waiting.peek()[1]
            if granted.done():  # cancelled, but who waited has not run since
                self._waiting.pop()
                continue
            if units > self.free:
                return
            self._waiting.pop()
            self.free -= units
            granted.set_result(None)
