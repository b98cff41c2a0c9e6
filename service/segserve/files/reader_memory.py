"""`ReaderMemory`: what one reader takes of the memory budget that all reading of a process shares."""

import threading
from concurrent.futures import CancelledError, Future

from segserve.errors import Unavailable
from segserve.memory_budget import MemoryBudget, Release


class ReaderMemory:
    """`ReaderMemory` holds bytes of a budget. One thread claims and closes; any thread may `kill`.

    budget: None grants everything.
    """

    def __init__(self, budget: MemoryBudget | None) -> None:
        self._budget, self._lock = budget, threading.Lock()
        self._held_bytes = 0
        self._release: Release | None = None
        self._waiting: Future[Release] | None = None
        self._killed = False

    def claim(self, needed_bytes: int) -> None:
        """Hold `needed_bytes` in all, unless more is held already. Blocks until they are free.

        Raises TooLarge where they are more than one may take, Busy where they do not get free, Unavailable once killed.
        """
        if self._budget is None or needed_bytes <= self._held_bytes:
            return
        self._budget.check(needed_bytes)
        # Given back first: who waits for more and holds some would keep others from ending, who wait as well.
        self.reduce(0)
        with self._lock:
            if self._killed:
                raise stopped_error()
            self._waiting = self._budget.acquire_from_thread(needed_bytes)
        try:
            self._release = self._waiting.result()
        except CancelledError:
            raise stopped_error() from None
        self._held_bytes = needed_bytes

    def reduce(self, kept_bytes: int) -> None:
        """Hold no more than `kept_bytes`."""
        if self._release is not None and kept_bytes < self._held_bytes:
            self._release(kept_bytes)
            self._held_bytes = kept_bytes

    def kill(self) -> None:
        """Have the call that waits raise Unavailable, and all after it."""
        with self._lock:
            self._killed = True
            if self._waiting is not None:
                self._waiting.cancel()

    def close(self) -> None:
        """Give all back."""
        self.reduce(0)


def stopped_error() -> Unavailable:
    return Unavailable("Reading the file was stopped.")
