"""Failed logins that all replicas know of, in the cache's Redis."""

from segserve.identity.failure_limit import FORGET_FAILURE_S, MAX_FAILURES
from segserve.store.rate_counts import RedisRateCounts


class RedisFailureCounts:
    """`RedisFailureCounts` counts failed logins of each client: as many in a sliding window as a process takes of one.

    A credential that was right is counted too: a rate of one in two days that is used up says that it was.
    """

    def __init__(self, counts: RedisRateCounts) -> None:
        from limits import RateLimitItemPerDay, RateLimitItemPerSecond

        self._counts = counts
        self._failures = RateLimitItemPerSecond(
            MAX_FAILURES, int(MAX_FAILURES * FORGET_FAILURE_S), "failures"
        )
        self._proofs = RateLimitItemPerDay(1, 2, "proofs")

    async def count(self, client: str) -> None:
        """Count a failed login."""
        await self._counts.hit(self._failures, client, 1)

    async def wait_s(self, client: str) -> float:
        """Return for how long a client that has failed too often has to wait, 0 for any other."""
        left, more_in_s = await self._counts.look(self._failures, client)
        return 0.0 if left > 0 else max(1.0, more_in_s)

    async def prove(self, proven: bytes) -> None:
        """Remember a credential that was right at a client, for a day or more. proven: its digest."""
        await self._counts.hit(self._proofs, proven.hex(), 1)

    async def is_proven(self, proven: bytes) -> bool:
        """Return whether any replica remembers it."""
        left, _ = await self._counts.look(self._proofs, proven.hex())
        return left == 0
