"""The cache that all replicas share: embeddings, AIS maps and low-res masks in Redis. Losing it costs time, never data.

Every method raises CacheUnavailable if Redis cannot be reached, and nothing else.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any, TypeVar

import numpy as np
import structlog
from redis.exceptions import TimeoutError as RedisTimeout
from safetensors import SafetensorError
from safetensors.numpy import load, save

from segserve.errors import CacheUnavailable
from segserve.store import redis_keys
from segserve.store.redis_connection import (
    REDIS_ERRORS,
    ClusterClient,
    connect_redis,
    is_refusal,
    scan_keys,
    subscribe,
)
from segserve.store.redis_url import is_cluster_url, is_sentinel_url
from segserve.types import Embedding, Float16, Region, UInt16

# How long a command to a cluster, or to a Sentinels' master, may take: so many times the setting's timeout.
MAX_TIMEOUTS = 2
# After a command that timed out, how long the next ones fail at once.
AWAY_S = 1.0
# How long to wait before listening again after the connection was lost.
LISTEN_RETRY_S = 0.5

# Keys looked at, or deleted, in one command.
KEYS_PER_SCAN = 1000

# Lua scripts: only the holder of a lock may renew or release it.
RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"

# The URL of the cache.
SETTING = "SEGSERVE_REDIS_URL"

T = TypeVar("T")

log = structlog.get_logger(__name__)


def pack_embedding(arrays: Embedding) -> bytes:
    """Return the embedding as safetensors in fp16: half the bytes, for masks with an IoU of 0.9999."""
    return save({name: np.ascontiguousarray(a.astype(np.float16)) for name, a in arrays.items()})


def unpack_embedding(data: bytes) -> Embedding:
    """Raises SafetensorError."""
    return load(data)


@dataclass(frozen=True)
class ImageDeleted:
    """Notice: an image was deleted on some replica."""

    tenant: str
    image_id: str


@dataclass(frozen=True)
class TenantGone:
    """Notice: a tenant was deleted on some replica."""

    tenant: str


@dataclass(frozen=True)
class EmbeddingReady:
    """Notice: the leader for this key has finished or given up. key: of the embedding."""

    key: str


def parse_notice(channel: str, text: str) -> ImageDeleted | TenantGone | EmbeddingReady:
    if channel == redis_keys.encoded_channel():
        return EmbeddingReady(text)
    tenant, _, image_id = text.partition("/")
    return ImageDeleted(tenant, image_id) if image_id else TenantGone(tenant)


class RedisCache:
    """`RedisCache` reads and writes the cache, and carries locks and notices between the replicas.

    url: as `redis_url` says, of a cluster too. timeout_s: bounds connecting and every command.
    embedding_ttl_s: how long embeddings and maps are kept. mask_ttl_s: how long masks are kept.
    Raises BadInput for a URL that is not that of a Redis.
    """

    def __init__(self, url: str, timeout_s: float, embedding_ttl_s: int, mask_ttl_s: int) -> None:
        self._embedding_ttl_s, self._mask_ttl_s = embedding_ttl_s, mask_ttl_s
        self._redis = connect_redis(url, timeout_s, SETTING)
        # Several nodes or Sentinels are tried one after the other: each of them may take `timeout_s`.
        has_several = is_cluster_url(url) or is_sentinel_url(url)
        self._max_s = MAX_TIMEOUTS * timeout_s if has_several else None
        self._away_until = 0.0

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        await self._call(self._redis.ping)

    async def _call(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run a command. After one that timed out the next ones fail at once for AWAY_S.

        Otherwise a hung server would cost every click its timeout.
        """
        if time.monotonic() < self._away_until:
            raise CacheUnavailable
        try:
            async with asyncio.timeout(self._max_s):
                return await command()
        except REDIS_ERRORS as error:
            log.warning("cache unavailable", reason=f"{type(error).__name__}: {error}")
            if isinstance(error, (TimeoutError, RedisTimeout)):
                self._away_until = time.monotonic() + AWAY_S
            raise CacheUnavailable(is_refused=is_refusal(error)) from error

    async def _get(self, key: str) -> bytes | None:
        answer = await self._call(lambda: self._redis.get(key))
        return answer if isinstance(answer, bytes) else None  # never str: the client decodes nothing

    async def get_embedding(
        self, tenant: str, image_id: str, digest: str, region: Region | None = None
    ) -> Embedding | None:
        """Return fp16 arrays, or None. An entry that cannot be read counts as absent: it is encoded again."""
        data = await self._get(redis_keys.embedding(tenant, image_id, digest, region))
        if data is None:
            return None
        try:
            return unpack_embedding(data)
        except SafetensorError:
            return None

    async def put_embedding(
        self, tenant: str, image_id: str, digest: str, packed: bytes, region: Region | None = None
    ) -> None:
        key = redis_keys.embedding(tenant, image_id, digest, region)
        await self._put(tenant, image_id, {key: packed}, self._embedding_ttl_s)

    async def get_maps(
        self, tenant: str, image_id: str, digest: str, region: Region | None = None
    ) -> UInt16 | None:
        """Return the AIS maps [3, h, h] as they were put, or None. An entry that cannot be read counts as absent."""
        data = await self._get(redis_keys.maps(tenant, image_id, digest, region))
        if data is None:
            return None
        try:
            maps: UInt16 = unpack_embedding(data)["maps"]
        except (SafetensorError, KeyError):
            return None
        return maps

    async def put_maps(
        self, tenant: str, image_id: str, digest: str, maps: UInt16, region: Region | None = None
    ) -> None:
        """Store the AIS maps [3, h, h] for as long as an embedding."""
        key = redis_keys.maps(tenant, image_id, digest, region)
        await self._put(tenant, image_id, {key: save({"maps": maps})}, self._embedding_ttl_s)

    async def get_mask(self, tenant: str, image_id: str, mask_id: str) -> Float16 | None:
        """Return low-res logits [4g, 4g] (g: side of the embedding), or None."""
        data = await self._get(redis_keys.mask(tenant, image_id, mask_id))
        if data is None:
            return None
        logits: Float16 = np.frombuffer(data, "<f2")
        return logits.reshape(isqrt(logits.size), -1)

    async def put_masks(self, tenant: str, image_id: str, masks: dict[str, Float16]) -> None:
        """Store low-res logits [4g, 4g] by mask_id for `mask_ttl_s`."""
        packed = {redis_keys.mask(tenant, image_id, i): logits.tobytes() for i, logits in masks.items()}
        await self._put(tenant, image_id, packed, self._mask_ttl_s)

    async def _put(self, tenant: str, image_id: str, values: dict[str, bytes], ttl_s: int) -> None:
        """Write the values, and add their keys to the image's set of derived keys, in one round trip."""
        index = redis_keys.derived(tenant, image_id)
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, ex=ttl_s)
        pipeline.sadd(index, *values)
        pipeline.expire(index, max(self._embedding_ttl_s, self._mask_ttl_s))
        await self._call(pipeline.execute)

    async def forget(self, tenant: str, image_id: str, digests: Iterable[str]) -> None:
        """Delete everything that was made from an image, and notify the other replicas.

        digests: of the bundles known here. Their keys are deleted even if the set of derived keys was evicted. Keys of
        regions are then not found; they wait for their expiry.
        """
        index = redis_keys.derived(tenant, image_id)
        known = [key(tenant, image_id, d) for d in digests for key in (redis_keys.embedding, redis_keys.maps)]
        members = await self._call(lambda: self._redis.smembers(index))
        await self._call(lambda: self._redis.unlink(index, *known, *members))
        await self._call(lambda: self._redis.publish(redis_keys.deleted_channel(), f"{tenant}/{image_id}"))

    async def delete_keys(self, patterns: Iterable[str]) -> int:
        """Delete all keys that match a pattern, and return how many there were. It looks at every key there is."""
        count = 0
        for pattern in patterns:
            pending = list[bytes]()
            keys = scan_keys(self._redis, pattern, KEYS_PER_SCAN)
            while (key := await self._call(partial(anext, keys, None))) is not None:
                pending.append(key)
                if len(pending) == KEYS_PER_SCAN:
                    count += await self._unlink_each(pending)
                    pending.clear()
            count += await self._unlink_each(pending)
        return count

    async def _unlink_each(self, keys: list[bytes]) -> int:
        """Delete keys, one command each: they may be on several nodes."""
        if isinstance(self._redis, ClusterClient):  # whose pipelines do not unlink
            return sum([await self._call(partial(self._redis.unlink, key)) for key in keys])
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.unlink(key)
        return sum(await self._call(pipeline.execute)) if keys else 0

    async def publish_deleted_tenant(self, tenant: str) -> None:
        """Notify the replicas that a tenant was deleted."""
        await self._call(lambda: self._redis.publish(redis_keys.deleted_channel(), f"{tenant}/"))

    async def acquire_lead(self, key: str, token: str, ttl_s: float) -> bool:
        """Try to become the one replica that computes what `key` will hold; True if this token leads now.

        A leader calls it again to renew its lead, or to learn whether it still leads.
        """
        lock, ms = redis_keys.encoding_lock(key), int(1000 * ttl_s)
        if await self._call(lambda: self._redis.set(lock, token, nx=True, px=ms)):
            return True
        return bool(await self._call(lambda: self._run(RENEW, lock, token, str(ms))))

    @asynccontextmanager
    async def keep_lead(self, key: str, token: str, ttl_s: float) -> AsyncIterator[None]:
        """Renew a lead that this token has, as long as the block runs. It is not released."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(ttl_s / 3)
                with suppress(CacheUnavailable):
                    await self.acquire_lead(key, token, ttl_s)

        renewal = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewal.cancel()

    async def release_lead(self, key: str, token: str) -> None:
        """Give up the lead if `token` still has it, and notify the replicas that wait."""
        await self._call(lambda: self._run(RELEASE, redis_keys.encoding_lock(key), token))
        await self._call(lambda: self._redis.publish(redis_keys.encoded_channel(), key))

    async def run_script(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run a Lua script. keys: all on one node of a cluster."""
        texts = [str(argument) for argument in arguments]
        return await self._call(lambda: self._redis.eval(script, len(keys), *keys, *texts))

    def _run(self, script: str, *arguments: str) -> Awaitable[Any]:
        return self._redis.eval(script, 1, *arguments)

    async def listen(self) -> AsyncIterator[ImageDeleted | TenantGone | EmbeddingReady | None]:
        """Yield the notices of all replicas, forever.

        Yields None each time listening begins or begins again: earlier notices may have been missed.
        """
        while True:
            try:
                channels = redis_keys.deleted_channel(), redis_keys.encoded_channel()
                async with subscribe(self._redis, *channels) as channel:
                    yield None
                    while True:
                        message: dict[str, Any] | None = await channel.get_message(timeout=1.0)
                        if message is not None:
                            yield parse_notice(message["channel"].decode(), message["data"].decode())
            except REDIS_ERRORS:
                await asyncio.sleep(LISTEN_RETRY_S)

    async def usage(self) -> tuple[int, int, int]:
        """Return (keys, bytes, keys evicted since the server started) of the whole Redis."""
        infos = await self._call(self._read_infos)
        used, evicted = (sum(int(info[name]) for info in infos) for name in ("used_memory", "evicted_keys"))
        return sum(map(count_keys, infos)), used, evicted

    async def _read_infos(self) -> list[dict[str, Any]]:
        """Return what each server, but no replica of it, says about itself."""
        if not isinstance(self._redis, ClusterClient):
            return [await self._redis.info()]
        infos: dict[str, Any] = await self._redis.execute_command(
            "INFO", target_nodes=ClusterClient.PRIMARIES
        )
        # Of a cluster with one node only that node's own.
        return [infos] if "used_memory" in infos else list(infos.values())


def count_keys(info: dict[str, Any]) -> int:
    """Return the keys of all databases of a server, of which it says db0: {"keys": 7, ...}."""
    return sum(int(value["keys"]) for value in info.values() if isinstance(value, dict) and "keys" in value)
