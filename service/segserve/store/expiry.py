"""Delete what was stored long ago."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import structlog

from segserve.errors import FileNotFound, ImageNotFound, SegserveError
from segserve.types import DEFAULT_TENANT

log = structlog.get_logger(__name__)


class DatedStore(Protocol):
    """`DatedStore` knows the age of what it stores."""

    async def list_older_than(self, tenant: str, max_age: timedelta) -> list[str]: ...


async def delete_expired(
    store: DatedStore,
    delete: Callable[[str, str], Awaitable[None]],
    max_age: timedelta,
    interval_s: float,
    *,
    kind: str,
) -> None:
    """Delete what is older than `max_age`, every `interval_s` seconds, until cancelled.

    delete: called with (tenant, id).
    kind: "image" or "file", for the log.
    """
    while True:
        try:
            for stored_id in await store.list_older_than(DEFAULT_TENANT, max_age):
                # Bytes without a record are not found, and are deleted all the same.
                with suppress(FileNotFound, ImageNotFound):
                    await delete(DEFAULT_TENANT, stored_id)
                log.info(f"{kind} expired", **{f"{kind}_id": stored_id})
        except SegserveError as error:
            log.warning("expiry interrupted", reason=str(error))
        await asyncio.sleep(interval_s)
