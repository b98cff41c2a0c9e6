"""A full queue is no failure of a job, which has time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from segserve.errors import Busy
from segserve.jobs.engine.chunked_work import Stop

LONGEST_WAIT_S = 1.0  # so that a job is soon stopped

T = TypeVar("T")


async def patiently(call: Callable[[], Awaitable[T]], stop: Stop) -> T:
    """What it answers once there is room. Raises Stopped."""
    while True:
        stop.check()
        try:
            return await call()
        except Busy as busy:
            await asyncio.sleep(min(busy.retry_after_s, LONGEST_WAIT_S))
