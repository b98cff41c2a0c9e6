"""Deletes tenants: all their objects, jobs, usage, and what the cache and the replicas hold of them.

It begins again from the mark (`store.tenant_deletions`) after a kill, and repeats until nothing was found for a while:
what a process wrote that had not seen the mark yet is found too.
"""

import asyncio
import secrets
import time
from dataclasses import replace

import structlog

from segserve.errors import SegserveError
from segserve.jobs.engine.delete_jobs import delete_jobs_of_tenant
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.usage_store import UsageStore
from segserve.store import object_paths, redis_keys
from segserve.store.object_store import ObjectStore
from segserve.store.redis_cache import RedisCache
from segserve.store.tenant_deletions import REFRESH_S, DeletionMark, TenantDeletions

# Nothing must have been found for so long: longer than the largest object takes to be written.
SETTLE_S = 300.0
# By then every process refuses to store more of the tenant.
SEEN_S = 2 * REFRESH_S
PASS_INTERVAL_S = 5.0
# Another replica goes on after so long without a sign of the one that deletes.
LEAD_S = 30.0

log = structlog.get_logger(__name__)


class TenantDeleter:
    """`TenantDeleter` runs in every replica of the service; one of them deletes.

    jobs, usage: None where there are no jobs.
    """

    def __init__(
        self,
        deletions: TenantDeletions,
        objects: ObjectStore,
        cache: RedisCache,
        jobs: JobStore | None,
        usage: UsageStore | None,
    ) -> None:
        self._deletions, self._objects, self._cache = deletions, objects, cache
        self._jobs, self._usage = jobs, usage
        self._token = secrets.token_hex(8)

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            for tenant in sorted(self._deletions.marked):
                try:
                    await self.go_on(tenant)
                except SegserveError as error:
                    log.warning("tenant not deleted yet", deleted_tenant=tenant, reason=str(error))
            await asyncio.sleep(PASS_INTERVAL_S)

    async def go_on(self, tenant: str) -> None:
        """Delete what there is of a tenant, unless another replica does. Raises Unavailable."""
        if not await self._leads(tenant):
            return
        async with self._cache.keep_lead(redis_keys.deleting(tenant), self._token, LEAD_S):
            mark = await self._deletions.read(tenant)
            if mark is None:
                return
            found = await self._delete_stored(tenant)
            if mark.clean_since is None:
                found += await self._forget_cached(tenant)
            await self._note(tenant, mark, found)

    async def _leads(self, tenant: str) -> bool:
        """Return whether this replica deletes the tenant: none did, or it does already."""
        return await self._cache.acquire_lead(redis_keys.deleting(tenant), self._token, LEAD_S)

    async def _forget_cached(self, tenant: str) -> int:
        """Return how many keys of the cache were there. The replicas are told to forget what they hold."""
        keys = await self._cache.delete_keys(redis_keys.patterns_of_tenant(tenant))
        await self._cache.publish_deleted_tenant(tenant)
        return keys

    async def _delete_stored(self, tenant: str) -> int:
        """Return how many objects and keys of the jobs were there."""
        keys = 0
        if self._jobs is not None and self._usage is not None:
            keys = await delete_jobs_of_tenant(self._jobs, tenant)
            await self._usage.forget(tenant)
        return keys + await self._objects.delete_all(object_paths.tenant(tenant))

    async def _note(self, tenant: str, mark: DeletionMark, found: int) -> None:
        """Note whether anything was found, and end the deletion if nothing was for long enough.

        Nothing is noted where another replica went on or ended the deletion meanwhile: a mark that is written again
        would delete what the tenant has stored since.

        mark: as the pass began with.
        """
        if not await self._leads(tenant) or await self._deletions.read(tenant) != mark:
            return
        now = time.time()
        if found:
            log.info("deleted what was there of a tenant", deleted_tenant=tenant, objects_and_keys=found)
            await self._deletions.write(tenant, replace(mark, clean_since=None))
        elif mark.clean_since is None and now - mark.marked_at > SEEN_S:
            await self._deletions.write(tenant, replace(mark, clean_since=now))
        elif mark.clean_since is not None and now - mark.clean_since > SETTLE_S:
            await self._forget_cached(tenant)
            if not await self._leads(tenant):
                return
            await self._deletions.unmark(tenant)
            log.info("tenant deleted", deleted_tenant=tenant)
