"""Quotas for tests."""

from typing import Any, cast

from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota
from segserve.store.redis_cache import RedisCache
from segserve.store.storage_counts import StorageCounts
from segserve.store.tenant_deletions import TenantDeletions

# Nothing is counted where there is no limit.
NO_QUOTA = Quota(TenantPolicies(), cast(Any, None), TenantDeletions(cast(Any, None)))


def open_quota(objects: ObjectStore, url: str, **limits: int) -> Quota:
    """Return the quota of all tenants, counted in a Redis. limits: of `TenantPolicy`."""
    counts = StorageCounts(objects, RedisCache(url, 5.0, 60, 60))
    return Quota(TenantPolicies(TenantPolicy(**limits)), counts, TenantDeletions(objects))


async def close_quota(quota: Quota) -> None:
    """Close the connection of a quota from `open_quota`."""
    await quota._counts.close()
    await quota._counts._cache.close()
