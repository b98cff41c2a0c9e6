"""Tenants that are being deleted: a mark for each in the object store, which every process looks at.

From the mark on nothing more of the tenant is stored. `jobs.tenant_deleter` deletes what there is, and takes the mark
away at last. So a deletion goes on whatever is killed.
"""

import asyncio
import time
from dataclasses import asdict, dataclass

import orjson
import structlog

from segserve.errors import SegserveError, TenantDeleted
from segserve.identity.tenant_name import is_tenant_name
from segserve.store import object_paths
from segserve.store.object_store import ObjectStore

# How late a process may learn of a mark. One listing of an empty folder costs nothing much.
REFRESH_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeletionMark:
    """A mark. Times are seconds since the epoch.

    clean_since: since when nothing of the tenant was found any more; None: something was.
    """

    marked_at: float
    clean_since: float | None = None


class TenantDeletions:
    """`TenantDeletions` reads and writes the marks. Its methods raise Unavailable."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._marked = frozenset[str]()

    @property
    def marked(self) -> frozenset[str]:
        """The tenants that are being deleted, as last seen."""
        return self._marked

    def check(self, tenant: str) -> None:
        """Raise TenantDeleted if the tenant is being deleted."""
        if tenant in self._marked:
            raise TenantDeleted(tenant)

    async def mark(self, tenant: str) -> DeletionMark:
        """Begin to delete a tenant, and return its mark. One that is being deleted goes on."""
        mark = await self.read(tenant)
        if mark is None:
            mark = DeletionMark(time.time())
            await self.write(tenant, mark)
        self._marked |= {tenant}
        return mark

    async def read(self, tenant: str) -> DeletionMark | None:
        data = await self._objects.get(object_paths.deletion(tenant))
        return None if data is None else DeletionMark(**orjson.loads(data))

    async def write(self, tenant: str, mark: DeletionMark) -> None:
        await self._objects.put(object_paths.deletion(tenant), orjson.dumps(asdict(mark)))

    async def unmark(self, tenant: str) -> None:
        """End the deletion of a tenant: its name can be used again."""
        await self._objects.delete(object_paths.deletion(tenant))
        self._marked -= {tenant}

    async def refresh(self) -> frozenset[str]:
        """Look for marks, and return the tenants that have one."""
        folder = object_paths.deletions()
        names = [stored.path.removeprefix(folder) for stored in await self._objects.list(folder)]
        self._marked = frozenset(filter(is_tenant_name, names))
        return self._marked

    async def watch(self) -> None:
        """Look for marks now and again, until cancelled."""
        while True:
            try:
                await self.refresh()
            except SegserveError as error:
                log.warning("deletions of tenants not looked for", reason=str(error))
            await asyncio.sleep(REFRESH_S)
