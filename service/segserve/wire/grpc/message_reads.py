"""How many messages of gRPC are received at the same time, so that they never hold more memory than JSON of REST may.

gRPC puts a message together, however large, before anybody learns its size. But it begins only when somebody asks for
the message, and holds no more of it before than LOOKAHEAD_BYTES.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

from segserve.errors import Busy
from segserve.fair_places import FairPlaces
from segserve.request_limits import RequestKind
from segserve.settings import Settings

# What gRPC receives of a call that nobody reads. More lets chunks of an upload flow over links of long latency.
LOOKAHEAD_BYTES = 256 << 10


class MessageReads:
    """`MessageReads` lets messages be received in turn: each kind of call has places of its own, of which a client gets
    its share. A place is for the largest message.

    max_wait_s: a call that waits longer gets Busy.
    """

    def __init__(self, settings: Settings, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        places = max(2, settings.body_memory_mb // settings.max_request_mb // 2)
        share = ceil(places * settings.max_client_share)
        self._places = {kind: FairPlaces(places, share) for kind in RequestKind}

    @asynccontextmanager
    async def place(self, kind: RequestKind) -> AsyncIterator[None]:
        """Hold a place for the current client while the block receives a message. Raises Busy."""
        places = self._places[kind]
        try:
            client = await places.acquire(self._max_wait_s)
        except TimeoutError:
            raise Busy("Too many messages are being received.", remedy="Try again soon.") from None
        try:
            yield
        finally:
            places.release(client)
