"""What a tenant may store, images and files together."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segserve.errors import TooLarge
from segserve.store import keys
from segserve.store.object_store import ObjectStore

REFRESH_S = 60.0


class Quota:
    """most: bytes a tenant; 0 is no limit."""

    def __init__(self, objects: ObjectStore, most: int) -> None:
        self._objects, self._most = objects, most
        self._used: dict[str, tuple[float, int]] = {}
        self._coming: Counter[str] = Counter()  # bytes that are being stored
        self._listing = asyncio.Lock()

    async def count_used_bytes(self, tenant: str) -> int:
        """Bytes, with those that are being stored; listed at most once a minute and counted along between."""
        async with self._listing:
            at, used = self._used.get(tenant, (float("-inf"), 0))
            if time.monotonic() - at > REFRESH_S:
                listed = [await self._objects.list(p) for p in (keys.images(tenant), keys.files(tenant))]
                used = sum(entry.size for entries in listed for entry in entries)
                self._used[tenant] = (time.monotonic(), used)
        return self._used[tenant][1] + self._coming[tenant]

    def adjust(self, tenant: str, change: int) -> None:
        if tenant in self._used:
            at, used = self._used[tenant]
            self._used[tenant] = (at, used + change)

    async def check_room(self, tenant: str, more: int) -> None:
        """Raises TooLarge."""
        if self._most and await self.count_used_bytes(tenant) + more > self._most:
            raise TooLarge(
                f"It would exceed the storage quota of {self._most // 1_000_000} MB.",
                field="file",
                remedy="Delete images with DELETE /v1/images/{image_id}, files alike, or ask for a larger quota.",
            )

    @asynccontextmanager
    async def reserve(self, tenant: str, more: int) -> AsyncIterator[None]:
        """For what the block stores: counted before it is there, so that of several at once no more are taken than fit.
        Raises TooLarge."""
        await self.check_room(tenant, more)
        self._coming[tenant] += more
        try:
            yield
        finally:
            self._coming[tenant] -= more
        self.adjust(tenant, more)
