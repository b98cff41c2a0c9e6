"""The tenants that have stored something: the folders at the top of the object store."""

from segserve.identity.tenant_name import is_tenant_name
from segserve.store.object_store import ObjectStore


async def list_tenants(objects: ObjectStore) -> list[str]:
    """Return the tenants that have objects, in order. What else lies there is left out.

    One request for each 1000 tenants, however many objects they have.
    """
    return sorted(filter(is_tenant_name, await objects.list_folders()))
