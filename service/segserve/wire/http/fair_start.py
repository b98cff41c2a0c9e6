"""When work of clients begins: at once, but for clients that send much together, which take turns."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from segserve.current_client import UNKNOWN_TENANT, Client
from segserve.fair_queue import FairQueue

# Clients that are remembered. More at once means that each of them sends little.
MAX_CLIENTS = 4096


@dataclass
class ClientStarts:
    """How much a client may begin at once: a token bucket."""

    left: float
    counted_at: float = 0.0


class FairStart:
    """`FairStart` begins requests, or connections. Where a client sends hundreds at once, they wait for each other, and
    nobody else waits for them.

    burst: what a client may begin at once, after a pause.
    interval_s: beyond the burst one of a client begins after each such interval.
    """

    def __init__(self, burst: int, interval_s: float) -> None:
        self._burst, self._interval_s = burst, interval_s
        # The least recently seen first.
        self._clients: OrderedDict[str, ClientStarts] = OrderedDict()
        self._waiting: FairQueue[Callable[[], bool]] = FairQueue()

    def start(self, client: str | None, begin: Callable[[], bool]) -> None:
        """Call `begin` now, or when it is this client's turn. It returns False where there is nothing to begin any
        more; then the turn is the next one's. client: an address; None is many clients, and never waits."""
        waiting = Client(UNKNOWN_TENANT, client)
        if client is None or (not self._waiting.count(waiting) and self._take(client)):
            begin()
            return
        is_first = not self._waiting
        self._waiting.put(waiting, begin)
        if is_first:
            self._schedule()

    def _take(self, client: str) -> bool:
        """Take one of the starts that a client has left, if there is one."""
        now = time.monotonic()
        starts = self._clients.setdefault(client, ClientStarts(self._burst))
        self._clients.move_to_end(client)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        starts.left = min(self._burst, starts.left + (now - starts.counted_at) / self._interval_s)
        starts.counted_at = now
        if starts.left < 1:
            return False
        starts.left -= 1
        return True

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(self._interval_s, self._take_turn)

    def _take_turn(self) -> None:
        while self._waiting and not self._waiting.pop()():
            pass
        if self._waiting:
            self._schedule()
