"""Delete what was stored long ago, of all tenants."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Protocol

import structlog

from segserve.errors import FileNotFound, ImageNotFound, SegserveError

log = structlog.get_logger(__name__)


class DatedStore(Protocol):
    """`DatedStore` knows the age of what it stores."""

    async def list_tenants(self) -> list[str]: ...

    async def list_older_than(self, tenant: str, max_age: timedelta) -> list[str]: ...


async def delete_expired(
    store: DatedStore,
    delete: Callable[[str, str], Awaitable[None]],
    find_max_age: Callable[[str], timedelta | None],
    interval_s: float,
    *,
    kind: str,
) -> None:
    """Delete what is older than its tenant's `max_age`, every `interval_s` seconds, until cancelled.

    delete: called with (tenant, id).
    find_max_age: returns for how long a tenant's are kept; None keeps them.
    kind: "image" or "file", for the log.
    """
    while True:
        tenants = list[str]()
        with log_interruption():
            tenants = await store.list_tenants()
        for tenant in tenants:
            with log_interruption():
                if (max_age := find_max_age(tenant)) is not None:
                    await _delete_older(store, delete, tenant, max_age, kind)
        await asyncio.sleep(interval_s)


@contextmanager
def log_interruption() -> Iterator[None]:
    """Log an error in the block: the next round tries again."""
    try:
        yield
    except SegserveError as error:
        log.warning("expiry interrupted", reason=str(error))


async def _delete_older(
    store: DatedStore,
    delete: Callable[[str, str], Awaitable[None]],
    tenant: str,
    max_age: timedelta,
    kind: str,
) -> None:
    for stored_id in await store.list_older_than(tenant, max_age):
        # Bytes without a record are not found, and are deleted all the same.
        with suppress(FileNotFound, ImageNotFound):
            await delete(tenant, stored_id)
        log.info(f"{kind} expired", tenant=tenant, **{f"{kind}_id": stored_id})
