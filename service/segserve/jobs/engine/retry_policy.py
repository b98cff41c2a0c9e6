"""The retry limits of jobs: how often a chunk is tried, how long a worker waits between two attempts (exponential
backoff), and when it gives up.

Webhooks have another schedule: `webhook_queue.RETRY_DELAYS_S`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from segserve.errors import Busy, JobsUnavailable
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

# The pause between two calls to a jobs' Redis that does not answer. Workers wait for it without counting an attempt.
REDIS_RETRY_S = 0.5

# The longest pause before a full queue is tried again, so that a job that is cancelled meanwhile stops soon.
MAX_BUSY_WAIT_S = 1.0

T = TypeVar("T")


def backoff_s(transient_failures: int) -> float:
    """Return the pause in seconds after a transient failure. transient_failures: how many came in a row before it."""
    return min(MIN_BACKOFF_S * float(2**transient_failures), MAX_BACKOFF_S)


async def retry_while_busy(call: Callable[[], Awaitable[T]], stop: StopSignal) -> T:
    """Return what `call` returns; call it again as long as it raises Busy. A full queue is no failure of a job.

    Raises JobStopped if `stop` is set, and every other error of `call`.
    """
    while True:
        stop.raise_if_set()
        try:
            return await call()
        except Busy as busy:
            await asyncio.sleep(min(busy.retry_after_s, MAX_BUSY_WAIT_S))


async def retry_until_redis_answers(call: Callable[[], Awaitable[T]], shutdown: StopSignal) -> T:
    """Return what `call` returns; call it again as long as the jobs' Redis is away. Finished work is not lost over it.

    Raises JobStopped if `shutdown` is set while Redis is away, and every other error of `call`.
    """
    while True:
        try:
            return await call()
        except JobsUnavailable:
            shutdown.raise_if_set()
            await asyncio.sleep(REDIS_RETRY_S)
