"""When requests begin: at once, but for clients that send many together, which take turns."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

# A client may begin so many requests at once, as a page with a few connections does.
BURST_REQUESTS = 16
# Beyond the burst a request of one client begins after each such interval. To begin takes about a millisecond, so that
# half of the event loop's time is left: for clicks, and to accept the connections that stand behind those of the burst.
START_INTERVAL_S = 0.002
# Clients that are remembered. More at once means that each of them sends little.
MAX_CLIENTS = 4096


@dataclass
class ClientStarts:
    """What a client may begin (a token bucket), and what waits."""

    left: float = BURST_REQUESTS
    counted_at: float = 0.0
    waiting: deque[Callable[[], None]] = field(default_factory=deque)

    def take(self) -> bool:
        """Take a start, if there is one left."""
        now = time.monotonic()
        self.left = min(BURST_REQUESTS, self.left + (now - self.counted_at) / START_INTERVAL_S)
        self.counted_at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class FairStart:
    """`FairStart` begins requests. Where a client sends hundreds at once, they wait for each other, and nobody else
    waits for them."""

    def __init__(self) -> None:
        # The least recently seen first.
        self._clients: OrderedDict[str, ClientStarts] = OrderedDict()
        # Of these, the ones with requests that wait. The first one's turn is next.
        self._turns: deque[ClientStarts] = deque()

    def start(self, client: str | None, begin: Callable[[], None]) -> None:
        """Call `begin` now, or when it is this client's turn. client: None is many clients, and never waits."""
        if client is None:
            begin()
            return
        starts = self._clients.setdefault(client, ClientStarts())
        self._clients.move_to_end(client)
        if not starts.waiting and starts.take():
            begin()
        else:
            starts.waiting.append(begin)
            if len(starts.waiting) == 1:
                self._turns.append(starts)
                if len(self._turns) == 1:
                    self._schedule()
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)  # what waits is in `_turns` too

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(START_INTERVAL_S, self._take_turn)

    def _take_turn(self) -> None:
        starts = self._turns.popleft()
        begin = starts.waiting.popleft()
        if starts.waiting:
            self._turns.append(starts)
        if self._turns:
            self._schedule()
        begin()
