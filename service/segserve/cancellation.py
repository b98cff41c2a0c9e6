"""Ending what runs beside."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 1.0


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel them and wait until they have ended, however often it takes: redis-py swallows a cancellation that comes
    while it connects."""
    tasks = list(tasks)
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # what they failed with is nobody's any more
