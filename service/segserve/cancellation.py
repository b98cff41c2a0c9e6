"""Cancelling asyncio tasks so that they have really ended."""

import asyncio
from collections.abc import Iterable
from typing import Any

# How long a task may take to end before it is cancelled again.
RETRY_S = 1.0


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks, and wait until all have ended. Their errors are dropped.

    One cancellation is not enough: redis-py swallows one that comes while it connects.
    """
    tasks = list(tasks)
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=RETRY_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # asyncio would log an error that nobody retrieved
