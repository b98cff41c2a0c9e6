"""The pace of a request's body, over REST and gRPC: a client that sends too slowly holds a slot for nothing."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from segserve.errors import TooSlow
from segserve.wire.http.limits import MIN_BYTES_PER_S

T = TypeVar("T")


class BodyPace:
    """`BodyPace` measures how fast a body comes. Only the time spent waiting counts, not the time spent using it.

    pause_s: the longest wait for the next part.
    timeout_s: after so much waiting in all, the pace must be MIN_BYTES_PER_S.
    """

    def __init__(self, pause_s: float, timeout_s: float) -> None:
        self._pause_s, self._timeout_s = pause_s, timeout_s
        self._received_bytes, self._waited_s = 0, 0.0

    async def wait_for(self, part: Awaitable[T]) -> T:
        """Wait for the next part. Raises TooSlow after the longest wait."""
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._pause_s):
                return await part
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._waited_s += time.perf_counter() - start

    def count(self, received_bytes: int, *, is_last: bool = False) -> None:
        """Count a part that came. Raises TooSlow if the body is below the pace and not complete yet."""
        self._received_bytes += received_bytes
        below_pace = self._received_bytes < MIN_BYTES_PER_S * self._waited_s
        if not is_last and self._waited_s > self._timeout_s and below_pace:
            raise self._too_slow()

    def _too_slow(self) -> TooSlow:
        return TooSlow(
            f"The body came too slowly: {self._received_bytes} bytes so far.",
            field="body",
            remedy=f"Send at least {MIN_BYTES_PER_S >> 10} KiB/s, without pauses of {self._pause_s:g} s.",
        )
