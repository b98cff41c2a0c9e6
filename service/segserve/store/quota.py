"""Storage quota: how much a tenant may store: images, files, and requests and results of jobs together."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segserve.errors import TooLarge
from segserve.store import object_paths
from segserve.store.object_store import ObjectStore
from segserve.types import MB

# How old a count may be. Between two listings this process counts its own changes; other replicas' are then missing.
REFRESH_S = 60.0


class Quota:
    """`Quota` checks what is to be stored against a limit. max_bytes: for each tenant; 0 is no limit."""

    def __init__(self, objects: ObjectStore, max_bytes: int) -> None:
        self._objects, self._max_bytes = objects, max_bytes
        self._used: dict[str, tuple[float, int]] = {}  # tenant -> (when it was listed, bytes)
        self._reserved: Counter[str] = Counter()  # bytes that are being stored
        self._listing = asyncio.Lock()

    async def count_used_bytes(self, tenant: str) -> int:
        """Return the bytes that a tenant stores, with those that are being stored."""
        async with self._listing:
            listed_at, used = self._used.get(tenant, (float("-inf"), 0))
            if time.monotonic() - listed_at > REFRESH_S:
                folders = (
                    object_paths.images,
                    object_paths.files,
                    object_paths.jobs,
                    object_paths.datastore,
                )
                listings = [await self._objects.list(folder(tenant)) for folder in folders]
                used = sum(stored.size for listing in listings for stored in listing)
                self._used[tenant] = (time.monotonic(), used)
        return self._used[tenant][1] + self._reserved[tenant]

    def adjust(self, tenant: str, change: int) -> None:
        """Add bytes to the count; negative for bytes that were deleted."""
        if tenant in self._used:
            listed_at, used = self._used[tenant]
            self._used[tenant] = (listed_at, used + change)

    async def check_room(self, tenant: str, nbytes: int, field: str | None = "file") -> None:
        """Raise TooLarge if the tenant may not store so many more bytes. field: the part of the request at fault."""
        if self._max_bytes and await self.count_used_bytes(tenant) + nbytes > self._max_bytes:
            raise TooLarge(
                f"It would exceed the storage quota of {self._max_bytes // MB} MB.",
                field=field,
                remedy="Delete images with DELETE /v1/images/{image_id}, files alike, or ask for a larger quota."
                " Results of jobs expire.",
            )

    @asynccontextmanager
    async def reserve(self, tenant: str, nbytes: int, field: str | None = "file") -> AsyncIterator[None]:
        """Reserve room for what the block stores, so that uploads at the same time cannot exceed the quota together.

        field: as for `check_room`. Raises TooLarge.
        """
        await self.check_room(tenant, nbytes, field)
        self._reserved[tenant] += nbytes
        try:
            yield
        finally:
            self._reserved[tenant] -= nbytes
        self.adjust(tenant, nbytes)
