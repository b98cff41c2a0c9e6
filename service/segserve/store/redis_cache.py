"""The shared cache: embeddings and low-res masks in Redis. Losing it costs time, never data.

Every method raises CacheUnavailable when Redis cannot be reached, and nothing else.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from math import isqrt
from typing import Any, TypeVar

import numpy as np
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from safetensors import SafetensorError
from safetensors.numpy import load, save

from segserve.errors import BadInput, CacheUnavailable
from segserve.store import keys
from segserve.types import Embedding, Float16, Region, UInt16

CONNECTIONS = 64  # more commands at once wait for one to come free
AWAY_S = 1.0

# Only the holder of a lock may prolong or release it.
RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"

T = TypeVar("T")

log = structlog.get_logger(__name__)


def pack_embedding(arrays: Embedding) -> bytes:
    """safetensors, floats as fp16: half the bytes for an IoU of 0.9999."""
    return save({name: np.ascontiguousarray(a.astype(np.float16)) for name, a in arrays.items()})


def unpack_embedding(data: bytes) -> Embedding:
    """Raises SafetensorError."""
    return load(data)


@dataclass(frozen=True)
class ImageDeleted:
    tenant: str
    image_id: str


@dataclass(frozen=True)
class EmbeddingReady:
    """key: of the embedding that arrived, or that somebody else may now make."""

    key: str


def parse_notice(channel: str, text: str) -> ImageDeleted | EmbeddingReady:
    if channel == keys.encoded_channel():
        return EmbeddingReady(text)
    tenant, _, image_id = text.partition("/")
    return ImageDeleted(tenant, image_id)


def open_connection_pool(url: str, timeout_s: float) -> redis.BlockingConnectionPool:
    """Raises BadInput where the address cannot be one of a Redis."""
    try:
        pool: redis.BlockingConnectionPool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # One retry at once covers a connection that a restarted server has closed; a hung one is not asked twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
    except ValueError as error:
        raise BadInput(
            f"The Redis address cannot be used: {error}.",
            field="redis_url",
            remedy="Set SEGSERVE_REDIS_URL to a URL such as redis://host:6379/0.",
        ) from None
    return pool


class RedisCache:
    """url: redis://, rediss:// or unix://. timeout_s bounds connecting and every command. Raises BadInput."""

    def __init__(self, url: str, timeout_s: float, embedding_ttl_s: int, mask_ttl_s: int) -> None:
        self._embedding_ttl_s, self._mask_ttl_s = embedding_ttl_s, mask_ttl_s
        self._redis = redis.Redis.from_pool(open_connection_pool(url, timeout_s))
        self._away_until = 0.0

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        await self._ask(self._redis.ping)

    async def _ask(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run a command. After one that timed out the next ones fail at once for a while: a hung server must
        not cost every click its timeout."""
        if time.monotonic() < self._away_until:
            raise CacheUnavailable
        try:
            return await command()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("cache unavailable", reason=repr(error))
            if isinstance(error, (TimeoutError, RedisTimeout)):
                self._away_until = time.monotonic() + AWAY_S
            raise CacheUnavailable from error

    async def _get(self, key: str) -> bytes | None:
        answer = await self._ask(lambda: self._redis.get(key))
        return (
            answer if isinstance(answer, bytes) else None
        )  # the client decodes nothing: it is bytes or None

    async def get_embedding(
        self, tenant: str, image_id: str, digest: str, region: Region | None = None
    ) -> Embedding | None:
        """fp16 arrays, or None. An entry that cannot be read counts as absent: it is encoded again."""
        data = await self._get(keys.embedding(tenant, image_id, digest, region))
        if data is None:
            return None
        try:
            return unpack_embedding(data)
        except SafetensorError:
            return None

    async def put_embedding(
        self, tenant: str, image_id: str, digest: str, packed: bytes, region: Region | None = None
    ) -> None:
        key = keys.embedding(tenant, image_id, digest, region)
        await self._put(tenant, image_id, {key: packed}, self._embedding_ttl_s)

    async def get_maps(
        self, tenant: str, image_id: str, digest: str, region: Region | None = None
    ) -> UInt16 | None:
        """[3, h, h] as they were put, or None. An entry that cannot be read counts as absent."""
        data = await self._get(keys.maps(tenant, image_id, digest, region))
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
        """Keep the automatic decoder's maps [3, h, h] as long as the embedding."""
        key = keys.maps(tenant, image_id, digest, region)
        await self._put(tenant, image_id, {key: save({"maps": maps})}, self._embedding_ttl_s)

    async def get_mask(self, tenant: str, image_id: str, mask_id: str) -> Float16 | None:
        """Low-res logits [4g, 4g]."""
        data = await self._get(keys.mask(tenant, image_id, mask_id))
        if data is None:
            return None
        logits: Float16 = np.frombuffer(data, "<f2")
        return logits.reshape(isqrt(logits.size), -1)

    async def put_masks(self, tenant: str, image_id: str, masks: dict[str, Float16]) -> None:
        """Keep low-res logits [4g, 4g] by mask_id for a while."""
        packed = {keys.mask(tenant, image_id, i): logits.tobytes() for i, logits in masks.items()}
        await self._put(tenant, image_id, packed, self._mask_ttl_s)

    async def _put(self, tenant: str, image_id: str, values: dict[str, bytes], ttl_s: int) -> None:
        """Write the values and note their keys under the image, in one round trip."""
        index = keys.derived(tenant, image_id)
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, ex=ttl_s)
        pipeline.sadd(index, *values)
        pipeline.expire(index, max(self._embedding_ttl_s, self._mask_ttl_s))
        await self._ask(pipeline.execute)

    async def forget(self, tenant: str, image_id: str, digests: Iterable[str]) -> None:
        """Delete all that was made from an image and tell the other replicas.

        digests: of the bundles known here; their keys are deleted even where the index was evicted, but for
        those of regions, which then wait for their expiry.
        """
        index = keys.derived(tenant, image_id)
        known = [key(tenant, image_id, d) for d in digests for key in (keys.embedding, keys.maps)]
        members = await self._ask(lambda: self._redis.smembers(index))
        await self._ask(lambda: self._redis.unlink(index, *known, *members))
        await self._ask(lambda: self._redis.publish(keys.deleted_channel(), f"{tenant}/{image_id}"))

    async def acquire_lead(self, key: str, token: str, ttl_s: float) -> bool:
        """Try to become the one replica that makes what `key` will hold. True again for the token that has it."""
        lock, ms = keys.encoding(key), int(1000 * ttl_s)
        if await self._ask(lambda: self._redis.set(lock, token, nx=True, px=ms)):
            return True
        return bool(await self._ask(lambda: self._run(RENEW, lock, token, str(ms))))

    async def release_lead(self, key: str, token: str) -> None:
        """Give the lead up if `token` still has it, and tell the replicas that wait."""
        await self._ask(lambda: self._run(RELEASE, keys.encoding(key), token))
        await self._ask(lambda: self._redis.publish(keys.encoded_channel(), key))

    def _run(self, script: str, *arguments: str) -> Awaitable[Any]:
        return self._redis.eval(script, 1, *arguments)

    async def listen(self) -> AsyncIterator[ImageDeleted | EmbeddingReady | None]:
        """What the replicas tell each other, for ever. None each time listening begins (again): what was said
        before may have been missed."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(keys.deleted_channel(), keys.encoded_channel())
                    yield None
                    while True:
                        message: dict[str, Any] | None = await channel.get_message(timeout=1.0)
                        if message is not None:
                            yield parse_notice(message["channel"].decode(), message["data"].decode())
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(0.5)

    async def usage(self) -> tuple[int, int, int]:
        """(keys, bytes, keys evicted since the server started), of the whole Redis."""
        size = await self._ask(self._redis.dbsize)
        info = await self._ask(self._redis.info)
        return int(size), int(info["used_memory"]), int(info["evicted_keys"])
