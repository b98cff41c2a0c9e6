"""How much each tenant stores, counted in Redis by all replicas together, with what is being stored now.

    used = base + added - removed      base: from the last listing of the object store; the rest: counted since

What is about to be stored is reserved first, in the same script that compares it with the limit: so replicas cannot
exceed a limit together. A reservation of a process that was killed ends by itself. What such a process had stored and
not counted, and a Redis that lost the counts, are mended by the next listing.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from segserve.errors import SegserveError
from segserve.store import object_paths, redis_keys
from segserve.store.object_store import ObjectStore
from segserve.store.redis_cache import RedisCache

# How old a listing may be. One that takes long is made less often.
RECOUNT_S = 600.0
RECOUNT_TIMES_DURATION = 20
# A listing keeps other replicas from listing too. It renews that, so that a killed one ends soon.
LISTING_S = 6.0
# A reservation of a killed process ends after so long. No object takes as long to be written.
RESERVATION_S = 900.0
# Counts of a tenant that stores nothing are forgotten after so long.
KEEP_S = 7 * 86_400

log = structlog.get_logger(__name__)

# KEYS: 1 the counts, 2 the reservations. sum_reserved: of reservations that have not ended.
HELPERS = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function sum_reserved()
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now())
    local sums = {0, 0}
    for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
        local bytes, images = string.match(member, ':(%d+):(%d+)$')
        sums = {sums[1] + bytes, sums[2] + images}
    end
    return sums
end
local function number(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end
local function used(kind) return number('base_' .. kind) + number('added_' .. kind) - number('removed_' .. kind) end
local function keep() for i = 1, 2 do redis.call('EXPIRE', KEYS[i], ARGV[1]) end end
"""
# ARGV: 1 keep in s, 2 the reservation ('' to look only), 3 bytes, 4 images, 5 and 6 their limits (0: none),
# 7 for how many ms it is reserved. Returns the kind of the limit that is reached, 'uncounted', or 'ok'.
RESERVE = f"""{HELPERS}
if redis.call('HEXISTS', KEYS[1], 'base_bytes') == 0 then return 'uncounted' end
local reserved = sum_reserved()
for i, kind in ipairs({{'bytes', 'images'}}) do
    local limit, more = tonumber(ARGV[4 + i]), tonumber(ARGV[2 + i])
    if limit > 0 and more > 0 and used(kind) + reserved[i] + more > limit then return kind end
end
if ARGV[2] ~= '' then
    redis.call('ZADD', KEYS[2], now() + ARGV[7], ARGV[2] .. ':' .. ARGV[3] .. ':' .. ARGV[4])
end
keep()
return 'ok'
"""
# ARGV: 1 keep in s, 2 the reservation, 3 bytes, 4 images, 5 whether they were stored: 1 or 0.
END_RESERVATION = f"""{HELPERS}
redis.call('ZREM', KEYS[2], ARGV[2] .. ':' .. ARGV[3] .. ':' .. ARGV[4])
if ARGV[5] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'added_bytes', ARGV[3])
    redis.call('HINCRBY', KEYS[1], 'added_images', ARGV[4])
end
return 1
"""
# ARGV: 1 keep in s, 2 bytes, 3 images.
REMOVE = f"""{HELPERS}
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'removed_bytes', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'removed_images', ARGV[3])
return 1
"""
# ARGV: 1 keep in s, 2 for how many ms others need not list. Returns nil if another replica lists now; otherwise added
# and removed by kind, and the bases ('' where there are none).
BEGIN_LISTING = f"""{HELPERS}
local at = now()
if number('listing_until') > at then return nil end
redis.call('HSET', KEYS[1], 'listing_until', at + ARGV[2])
keep()
local answer = {{}}
for _, kind in ipairs({{'bytes', 'images'}}) do
    answer[#answer + 1] = tostring(number('added_' .. kind))
    answer[#answer + 1] = tostring(number('removed_' .. kind))
    answer[#answer + 1] = redis.call('HGET', KEYS[1], 'base_' .. kind) or ''
end
return answer
"""
# ARGV: 1 keep in s, 2 for how many ms others need not list.
RENEW_LISTING = f"""{HELPERS}
redis.call('HSET', KEYS[1], 'listing_until', now() + ARGV[2])
return 1
"""
# What was stored or removed during a listing may be in it or not. So the count before it is moved only as far as that
# cannot explain. ARGV: 1 keep in s, 2 the time of the next listing in ms since 1970, then by kind: listed, added,
# removed and base when the listing began.
END_LISTING = f"""{HELPERS}
local reserved = sum_reserved()
for i, kind in ipairs({{'bytes', 'images'}}) do
    local at = 3 + 4 * (i - 1)
    local listed, added, removed = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local before = listed
    if ARGV[at + 3] == '' and redis.call('HEXISTS', KEYS[1], 'base_' .. kind) == 1 then return 0 end
    if ARGV[at + 3] ~= '' then
        local least = listed - (number('added_' .. kind) - added) - reserved[i]
        local most = listed + (number('removed_' .. kind) - removed)
        before = math.max(least, math.min(most, ARGV[at + 3] + added - removed))
    end
    redis.call('HSET', KEYS[1], 'base_' .. kind, string.format('%.0f', before - added + removed))
end
redis.call('HSET', KEYS[1], 'next_listing', ARGV[2])
redis.call('HDEL', KEYS[1], 'listing_until')
keep()
return 1
"""
# Returns used bytes and images with what is reserved, and the time of the next listing in ms; nil if uncounted.
READ = f"""{HELPERS}
if redis.call('HEXISTS', KEYS[1], 'base_bytes') == 0 then return nil end
local reserved = sum_reserved()
local bytes, images = used('bytes') + reserved[1], used('images') + reserved[2]
return {{tostring(bytes), tostring(images), tostring(number('next_listing'))}}
"""
# How often a replica looks whether another one's listing is done.
POLL_S = 0.1


@dataclass(frozen=True)
class Stored:
    """How much is stored, or is to be."""

    bytes: int
    images: int = 0


class StorageCounts:
    """`StorageCounts` counts what tenants store. Its methods raise CacheUnavailable, Unavailable."""

    def __init__(self, objects: ObjectStore, cache: RedisCache) -> None:
        self._objects, self._cache = objects, cache
        self._recounts: dict[str, asyncio.Task[None]] = {}

    async def reserve(self, tenant: str, more: Stored, limits: Stored, token: str = "") -> str | None:
        """Reserve room. Return None, or the kind of the limit that there is no room under: "bytes" or "images".

        limits: 0 is none. token: of the reservation, for `end_reservation`; empty: only look.
        """
        reservation_ms = int(1000 * RESERVATION_S)
        arguments = (token, more.bytes, more.images, limits.bytes, limits.images, reservation_ms)
        while (answer := await self._run(RESERVE, tenant, *arguments)) == b"uncounted":
            await self._count(tenant)
        self._recount_if_old(tenant)
        return None if answer == b"ok" else str(answer.decode())

    async def end_reservation(self, tenant: str, token: str, stored: Stored, *, is_stored: bool) -> None:
        """End a reservation: what it was for is stored and counts from now on, or will not be stored."""
        await self._run(END_RESERVATION, tenant, token, stored.bytes, stored.images, int(is_stored))

    async def remove(self, tenant: str, removed: Stored) -> None:
        """Count what was deleted."""
        await self._run(REMOVE, tenant, removed.bytes, removed.images)

    async def read(self, tenant: str) -> Stored:
        """Return what a tenant stores, with what is being stored."""
        while (answer := await self._run(READ, tenant)) is None:
            await self._count(tenant)
        return Stored(int(answer[0]), int(answer[1]))

    async def measure(self, tenant: str) -> Stored:
        """Return what a tenant stores, from a listing of its objects."""
        return await self._list(tenant)

    def _recount_if_old(self, tenant: str) -> None:
        """List again in the background, where the last listing is old."""
        if tenant in self._recounts:
            return

        async def recount() -> None:
            try:
                answer = await self._run(READ, tenant)
                if answer is not None and time.time() * 1000 > int(answer[2]):
                    await self._count(tenant)
                await asyncio.sleep(RECOUNT_S / 10)
            except SegserveError as error:
                log.warning("stored bytes not counted again", tenant=tenant, reason=str(error))

        task = self._recounts[tenant] = asyncio.create_task(recount())
        task.add_done_callback(lambda _: self._recounts.pop(tenant, None))

    async def close(self) -> None:
        for task in list(self._recounts.values()):
            task.cancel()
        await asyncio.gather(*self._recounts.values(), return_exceptions=True)

    async def _count(self, tenant: str) -> None:
        """List all objects of a tenant, or wait while another replica does."""
        began = await self._run(BEGIN_LISTING, tenant, int(1000 * LISTING_S))
        if began is None:
            await asyncio.sleep(POLL_S)
            return
        before = [text.decode() for text in began]
        started = time.monotonic()
        renewing = asyncio.create_task(self._renew_listing(tenant))
        try:
            listed = await self._list(tenant)
        finally:
            renewing.cancel()
        duration_s = time.monotonic() - started
        next_ms = int(1000 * (time.time() + max(RECOUNT_S, RECOUNT_TIMES_DURATION * duration_s)))
        parts: Sequence[object] = (listed.bytes, *before[:3], listed.images, *before[3:])
        await self._run(END_LISTING, tenant, next_ms, *parts)

    async def _renew_listing(self, tenant: str) -> None:
        while True:
            await asyncio.sleep(LISTING_S / 3)
            with suppress(SegserveError):
                await self._run(RENEW_LISTING, tenant, int(1000 * LISTING_S))

    async def _list(self, tenant: str) -> Stored:
        nbytes, images, folder = 0, 0, object_paths.images(tenant)
        for prefix in object_paths.counted_folders(tenant):
            for stored in await self._objects.list(prefix):
                nbytes += stored.size
                images += stored.path.startswith(folder) and stored.path.endswith(object_paths.RECORD)
        return Stored(nbytes, images)

    async def _run(self, script: str, tenant: str, *arguments: object) -> Any:
        keys = redis_keys.stored(tenant), redis_keys.reserved(tenant)
        return await self._cache.run_script(script, keys, KEEP_S, *arguments)


def new_token() -> str:
    return secrets.token_hex(8)
