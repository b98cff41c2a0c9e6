"""Answers that may be large are put together and written as bytes in a thread, because the event loop would be held up.

A handler may answer bytes in place of a message. The interceptor sends them as they are.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

Message: TypeAlias = Any  # google.protobuf.message.Message of a class that only the caller knows
Serialize: TypeAlias = Callable[[Message], bytes]


async def write_in_thread(build: Callable[[], Message]) -> bytes:
    """Return the bytes of the message that `build` returns. Both are made in a thread."""
    return await asyncio.to_thread(lambda: build().SerializeToString())


def pass_bytes(serialize: Serialize) -> Serialize:
    """Return a function that writes messages by `serialize`, and leaves bytes as they are."""
    return lambda answer: answer if isinstance(answer, bytes) else serialize(answer)
