"""A limit on failed logins of one client, so that guessing gets slow and cheap."""

import time
from collections import OrderedDict
from hashlib import blake2b
from math import ceil
from typing import Protocol

from segserve.errors import RateLimited

# Failures that one client may have at once, and how long until one of them is forgotten: as fail2ban and sshd, a few a
# minute. A tool with a mistyped key tries that often.
MAX_FAILURES = 20
FORGET_FAILURE_S = 3.0
# Clients and credentials that are remembered; of more, those unused for longest are forgotten. About 1 MB.
MAX_CLIENTS = 4096
MAX_PROVEN = 4096
DIGEST_BYTES = 16


class FailureCounts(Protocol):
    """Failed logins that all replicas know of. Where they cannot be reached, this one's own."""

    async def count(self, client: str) -> None:
        """Count a failed login."""
        ...

    async def wait_s(self, client: str) -> float:
        """Return for how long a client that has failed too often has to wait, 0 for any other."""
        ...

    async def prove(self, proven: bytes) -> None:
        """Remember a credential that was right at a client, for a day or more. proven: its digest."""
        ...

    async def is_proven(self, proven: bytes) -> bool:
        """Return whether any replica remembers it."""
        ...


class FailureLimit:
    """`FailureLimit` counts failed logins of each client in a leaky bucket. A client whose bucket is full is refused
    before anything is compared, but for credentials that were right at that client before: whoever works behind the
    same address goes on.

    shared: of all replicas, asked about credentials that were not right here before; None: there is one process.

    Keys are random numbers of 256 bits, which nobody guesses: what is spared is work and log.
    """

    def __init__(
        self,
        shared: FailureCounts | None = None,
        max_failures: int = MAX_FAILURES,
        forget_s: float = FORGET_FAILURE_S,
    ) -> None:
        self._shared, self._max_failures, self._forget_s = shared, max_failures, forget_s
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()  # failures, and when that was
        self._proven: OrderedDict[bytes | None, None] = OrderedDict()

    async def check(self, client: str, credential: str | None = None) -> None:
        """Raise RateLimited for a client that has failed too often, unless the credential was right before."""
        if self._shared is None and not self._failures:
            return
        proven = None if credential is None else digest(client, credential)
        if proven in self._proven:
            return
        left = self._count(client)
        if left > self._max_failures - 1:
            wait_s = (left - self._max_failures + 1) * self._forget_s
        else:
            wait_s = 0.0 if self._shared is None else await self._shared.wait_s(client)
        if wait_s <= 0:
            return
        if proven is not None and self._shared is not None and await self._shared.is_proven(proven):
            return
        raise RateLimited(
            "Too many wrong keys came from this address.",
            remedy="Correct the key, and wait.",
            retry_after_s=ceil(wait_s),
        )

    async def count_failure(self, client: str) -> None:
        """Count a credential that was wrong."""
        self._failures[client] = self._count(client) + 1, time.monotonic()
        self._failures.move_to_end(client)
        if len(self._failures) > MAX_CLIENTS:
            self._failures.popitem(last=False)
        if self._shared is not None:
            await self._shared.count(client)

    async def note_success(self, client: str, credential: str) -> None:
        """Remember a credential that was right."""
        proven = digest(client, credential)
        if proven in self._proven:
            self._proven.move_to_end(proven)
            return
        self._proven[proven] = None
        if len(self._proven) > MAX_PROVEN:
            self._proven.popitem(last=False)
        if self._shared is not None:
            await self._shared.prove(proven)

    def _count(self, client: str) -> float:
        failures, since = self._failures.get(client, (0.0, 0.0))
        return max(0.0, failures - (time.monotonic() - since) / self._forget_s)


def digest(client: str, credential: str) -> bytes:
    """Return what is remembered of a credential, which is not to be kept in memory."""
    return blake2b(f"{client}\0{credential}".encode(), digest_size=DIGEST_BYTES).digest()
