"""Work on whole images: seconds where a click takes milliseconds."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from segserve.errors import Busy
from segserve.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


NICE = 10  # priority below the clicks' threads


def lower_thread_priority() -> None:
    """Let other threads go first: for a thread that begins, as an executor's initializer. Linux alone has
    priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class BoundedExecutor:
    """Threads of their own, so that no click stands behind such work, and a queue that refuses rather than
    grow. threads: pieces of work at once. most_waiting: beyond them, Busy."""

    def __init__(self, threads: int, most_waiting: int, metrics: Metrics) -> None:
        self._executor = ThreadPoolExecutor(threads, "whole")
        self._most, self._metrics = threads + most_waiting, metrics
        self._taken = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(*args)` in its turn. Raises Busy at once where too much waits. Work that has begun runs to its
        end, also where nobody waits for it any more."""
        self._take()
        future = self._executor.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._give_back))
        return await asyncio.wrap_future(future)

    @contextmanager
    def place(self) -> Iterator[None]:
        """For work of many pieces, with turns of others between them. Raises Busy as `run` does."""
        self._take()
        try:
            yield
        finally:
            self._give_back()

    async def piece(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(*args)` in its turn, for one who has a place. What nobody waits for any more does not begin."""
        return await asyncio.wrap_future(self._executor.submit(work, *args, **kwargs))

    def _take(self) -> None:
        if self._taken >= self._most:
            self._metrics.rejected("whole_image_queue")
            raise Busy(
                "Too many whole images wait to be segmented.", remedy="Try again soon.", retry_after_s=5
            )
        self._taken += 1

    def _give_back(self) -> None:
        self._taken -= 1

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
