"""Threads with a bounded queue for work on whole images, which takes seconds where a click takes milliseconds."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import ParamSpec, TypeVar

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import current_client
from segserve.fair_executor import FairExecutor
from segserve.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

# Linux runs threads of a higher niceness after others; 0 is the threads of clicks, 19 the maximum.
LOW_PRIORITY_NICENESS = 10


def lower_thread_priority() -> None:
    """Lower the priority of the calling thread. Meant as an executor's initializer.

    Does nothing outside Linux: other systems have no priority per thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY_NICENESS)


class BoundedExecutor:
    """`BoundedExecutor` runs work in its own threads, so that no click waits behind it, and bounds the queue.

    Tenants and clients take turns, and none of them takes the last place of the queue from the others.

    threads: pieces of work that run at the same time.
    max_waiting: pieces of work that may wait; more than these get Busy.
    """

    def __init__(self, threads: int, max_waiting: int, metrics: Metrics) -> None:
        self._executor = FairExecutor(threads, "whole")
        self._limit = ConcurrencyLimit(
            threads + max_waiting,
            "Too many whole images wait to be segmented.",
            on_refused=partial(metrics.requests.count_rejection, "whole_image_queue"),
            on_client_refused=partial(metrics.requests.count_rejection, "client_whole_image_queue"),
            max_client_slots=threads + max_waiting - 1,
        )

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work(*args, **kwargs)` in a thread and return its result.

        Work that has begun runs to its end, even if the caller no longer waits for it, and holds its slot until then.
        Raises Busy at once if the queue is full.
        """
        client = current_client.get()
        self._limit.acquire(client=client)
        future = self._executor.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._limit.release, 1, client))
        return await asyncio.wrap_future(future)

    def slot(self) -> AbstractContextManager[None]:
        """Hold one slot for work of many steps, each of them a call of `run_in_slot`. Raises Busy as `run` does."""
        return self._limit.slot(client=current_client.get())

    async def run_in_slot(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one step of the work that holds a `slot`. Steps of other work may run between two of them.

        A step that nobody waits for any more does not begin.
        """
        return await asyncio.wrap_future(self._executor.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs; drop what waits. Blocks."""
        self._executor.shutdown(cancel_futures=True)
