"""What is old is deleted, of every tenant by its own age."""

import asyncio
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from segserve.errors import Unavailable
from segserve.store import object_paths
from segserve.store.expiry import delete_expired
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from tests.quotas import NO_QUOTA

HOUR_S = 3600.0


def test_each_tenant_has_its_own_age(tmp_path: Path) -> None:
    objects = open_store(None, tmp_path)
    store, deleted = ImageStore(objects, NO_QUOTA), list[tuple[str, str]]()

    async def delete(tenant: str, image_id: str) -> None:
        deleted.append((tenant, image_id))
        if tenant == "a":
            raise Unavailable("The object store is away for a moment.")

    async def story() -> None:
        for tenant in ("a", "b", "kept"):
            for image_id, age_s in (("1", 3 * HOUR_S), ("2", 1.5 * HOUR_S)):
                await objects.put(object_paths.image_bytes(tenant, image_id), b"1")
                at = time.time() - age_s
                os.utime(tmp_path / object_paths.image_bytes(tenant, image_id), (at, at))
        ages = {"a": timedelta(hours=1), "b": timedelta(hours=2), "kept": None}
        sweeping = delete_expired(store, delete, lambda tenant: ages[tenant], 0.05, kind="image")
        with suppress(TimeoutError):
            await asyncio.wait_for(sweeping, 1.0)

    asyncio.run(story())
    assert {tenant for tenant, _ in deleted} == {"a", "b"}, "one that fails does not keep the others waiting"
    assert {image_id for tenant, image_id in deleted if tenant == "b"} == {"1"}
