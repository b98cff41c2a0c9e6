"""Work for a client that may hang up: it ends with the connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from segserve.cancellation import cancel_and_wait

T = TypeVar("T")


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. Its task is cancelled when the client hangs up.

    The request's body must have been read. Raises ClientDisconnect, and what `work` raises.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(wait_for_disconnect(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await cancel_and_wait([task, watcher])


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
