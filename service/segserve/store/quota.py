"""Quotas: how many images a tenant may store, and how many bytes: images, files, requests and results of jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from segserve.errors import CacheUnavailable, TooLarge
from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.store.storage_counts import StorageCounts, Stored, new_token
from segserve.store.tenant_deletions import TenantDeletions
from segserve.types import MB


class Quota:
    """`Quota` checks what is to be stored against the limits of its tenant. A tenant without limits costs nothing.

    deletions: tenants of which nothing more is stored.

    Its methods raise CacheUnavailable where there are limits and what is stored cannot be counted.
    """

    def __init__(self, policies: TenantPolicies, counts: StorageCounts, deletions: TenantDeletions) -> None:
        self._policies, self._counts, self._deletions = policies, counts, deletions

    async def check_room(
        self, tenant: str, nbytes: int, field: str | None = "file", *, images: int = 0
    ) -> None:
        """Raise TooLarge if the tenant may not store so much more, TenantDeleted if it is being deleted.

        field: the part of the request at fault.
        """
        await self._reserve(tenant, Stored(nbytes, images), "", field)

    async def _reserve(self, tenant: str, more: Stored, token: str, field: str | None) -> bool:
        """Return whether room was reserved: not where there is no limit."""
        self._deletions.check(tenant)
        policy = self._policies.get(tenant)
        if not policy.limits_storage:
            return False
        limits = Stored(policy.max_bytes, policy.max_images)
        if (full := await self._counts.reserve(tenant, more, limits, token)) is not None:
            raise quota_full(full, policy, field)
        return True

    @asynccontextmanager
    async def reserve(
        self, tenant: str, nbytes: int, field: str | None = "file", *, images: int = 0
    ) -> AsyncIterator[None]:
        """Reserve room for what the block stores, so that uploads at the same time cannot exceed a quota together.

        field: as for `check_room`. Raises TooLarge, TenantDeleted.
        """
        more, token, is_stored = Stored(nbytes, images), new_token(), False
        is_reserved = await self._reserve(tenant, more, token, field)
        try:
            yield
            is_stored = True
        finally:
            if is_reserved:
                with suppress(
                    CacheUnavailable
                ):  # the reservation ends by itself, and the next listing counts
                    await self._counts.end_reservation(tenant, token, more, is_stored=is_stored)

    async def release(self, tenant: str, nbytes: int, *, images: int = 0) -> None:
        """Count what was deleted."""
        if self._policies.get(tenant).limits_storage:
            with suppress(CacheUnavailable):  # the next listing counts
                await self._counts.remove(tenant, Stored(nbytes, images))


def quota_full(kind: str, policy: TenantPolicy, field: str | None) -> TooLarge:
    if kind == "images":
        return TooLarge(
            f"It would exceed the quota of {policy.max_images} images.",
            field=field,
            remedy="Delete images with DELETE /v1/images/{image_id}, or ask for a larger quota.",
        )
    return TooLarge(
        f"It would exceed the storage quota of {policy.max_bytes // MB} MB.",
        field=field,
        remedy="Delete images with DELETE /v1/images/{image_id}, files alike, or ask for a larger quota."
        " Results of jobs expire.",
    )
