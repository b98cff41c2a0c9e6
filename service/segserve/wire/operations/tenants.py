"""Tenants, as operators see them: what each may store and stores, and their deletion."""

from collections import Counter
from typing import Any

from segserve.app import Service
from segserve.identity.tenant_name import check_tenant_name
from segserve.store.list_tenants import list_tenants

ACTIVE = "active"
DELETING = "deleting"


async def describe_tenants(service: Service) -> list[dict[str, Any]]:
    """Return all tenants that the tenants file names, or that have stored or used anything, as JSON.

    Raises Unavailable.
    """
    deleting = await service.storage.deletions.refresh()
    names = service.tenant_policies.names() | set(await list_tenants(service.storage.objects)) | deleting
    if service.has_jobs:
        names |= set(await service.jobs.usage.list_tenants())
    return await _describe(service, sorted(names))


async def describe_tenant(service: Service, name: str) -> dict[str, Any]:
    """Return one tenant as JSON; one that nobody knows has stored nothing. Raises BadInput, Unavailable."""
    await service.storage.deletions.refresh()
    return (await _describe(service, [check_tenant_name(name)]))[0]


async def _describe(service: Service, names: list[str]) -> list[dict[str, Any]]:
    stored: dict[str, int] = {}
    active: Counter[str] = Counter()
    if service.has_jobs:
        stored = await service.jobs.usage.read_stored()
        active = Counter(tenant for tenant, _ in await service.jobs.store.list_active())
    marked = service.storage.deletions.marked
    answers = []
    for name in names:
        policy = service.tenant_policies.get(name)
        answers.append(
            {
                "tenant": name,
                "state": DELETING if name in marked else ACTIVE,
                "quota_bytes": policy.max_bytes,
                "max_images": policy.max_images,
                "max_jobs": policy.max_jobs,
                "retention_days": policy.retention_days,
                "stored_bytes": stored.get(name),
                "active_jobs": active[name] if service.has_jobs else None,
            }
        )
    return answers


async def delete_tenant(service: Service, name: str) -> dict[str, Any]:
    """Begin to delete a tenant, and return it as JSON. Raises BadInput, Unavailable."""
    await service.storage.deletions.mark(check_tenant_name(name))
    return await describe_tenant(service, name)
