"""The retry limits of jobs: how often a chunk is tried, how long a worker waits between two attempts, and when it
gives up.

Webhooks have a schedule of their own: see `webhook_sender.RETRY_DELAYS_S`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from segserve.errors import Busy
from segserve.jobs.engine.stop_signal import StopSignal

# Attempts at one chunk before its job fails. A chunk that kills its worker (often by its memory) must not block the
# queue for ever; a worker that was killed by chance gets a second and a third chance.
MAX_ATTEMPTS = 3

# Transient failures in a row, without a new chunk between them, before the job fails. With the backoff below it is
# about half an hour: long enough for a cache or an object store to be restarted.
MAX_TRANSIENT_FAILURES = 30

# The pause after the first failure. It doubles with every transient failure.
MIN_BACKOFF_S = 2.0

# The longest pause, so that a job goes on soon after what it waited for is back.
MAX_BACKOFF_S = 60.0

# The pause between two calls to a jobs' Redis that does not answer: workers wait for it and count no attempt.
REDIS_RETRY_S = 0.5

# The longest pause before a full queue is asked again, so that a job that is cancelled meanwhile stops soon.
MAX_BUSY_WAIT_S = 1.0

T = TypeVar("T")


def backoff_s(transient_failures: int) -> float:
    """Return the pause in seconds after this many transient failures in a row before the present one (0 or more)."""
    return min(MIN_BACKOFF_S * float(2**transient_failures), MAX_BACKOFF_S)


async def retry_while_busy(call: Callable[[], Awaitable[T]], stop: StopSignal) -> T:
    """Return what `call` returns, calling it again while it raises Busy. A full queue is no failure of a job: it can
    wait.

    Raises JobStopped, and whatever else `call` raises.
    """
    while True:
        stop.raise_if_set()
        try:
            return await call()
        except Busy as busy:
            await asyncio.sleep(min(busy.retry_after_s, MAX_BUSY_WAIT_S))
