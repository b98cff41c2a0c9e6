"""The masks that were answered, by mask_id: a client sends a mask_id back to refine that mask."""

import asyncio
import secrets
from concurrent.futures import Executor

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from segserve.decode.large_images import format_region
from segserve.errors import CacheUnavailable, MaskNotFound
from segserve.models.promptable_model import PromptableModel
from segserve.store.redis_cache import RedisCache
from segserve.types import Float16, Float32, Region

# Masks held in this process. The next click nearly always refines one of the last masks.
MAX_HELD_MASKS = 512
# How long to wait for another replica's mask to reach Redis: a replica answers before it has written the mask.
REPLICA_WRITE_GRACE_S = 0.05
# Digits of the model's digest at the start of a mask_id, which tell the models apart.
DIGEST_DIGITS = 12


class MaskCache:
    """`MaskCache` keeps low-res logits by mask_id: in this process for the next click, in Redis for other replicas.

    A click does not wait for Redis: its masks are held at once, and written while the answer is on its way. After a
    write that failed, clicks wait for their writes until one succeeds.

    ttl_s: how long masks are held in this process.
    read_pool: threads in which logits are converted to fp16.
    """

    def __init__(self, cache: RedisCache, ttl_s: int, read_pool: Executor) -> None:
        self._cache, self._read_pool = cache, read_pool
        self._held: TTLCache[tuple[str, str, str], NDArray[np.floating]] = TTLCache(MAX_HELD_MASKS, ttl_s)
        self._writes: set[asyncio.Task[None]] = set()
        self._is_redis_away = False

    async def put(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        logits: list[Float32],
        regions: list[Region | None],
    ) -> list[str | None]:
        """Keep masks and return their new mask_ids; None for each if Redis is away.

        logits: [h, w] each. regions: the part of the image that each was decoded on; None is all of it.
        """
        masks = {create_mask_id(model, region): array for array, region in zip(logits, regions, strict=True)}
        write = asyncio.create_task(self._write(tenant, image_id, masks))
        self._writes.add(write)  # the event loop holds tasks only weakly
        write.add_done_callback(self._writes.discard)
        if self._is_redis_away:
            await write
            if self._is_redis_away:
                return [None] * len(masks)
        for mask_id, array in masks.items():
            self._held.setdefault((tenant, image_id, mask_id), array)
        return list(masks)

    async def _write(self, tenant: str, image_id: str, masks: dict[str, Float32]) -> None:
        loop = asyncio.get_running_loop()
        halves = await loop.run_in_executor(self._read_pool, convert_to_fp16, masks)
        for mask_id, array in halves.items():
            self._held[tenant, image_id, mask_id] = array
        try:
            await self._cache.put_masks(tenant, image_id, halves)
            self._is_redis_away = False
        except CacheUnavailable:
            self._is_redis_away = True

    async def get(
        self, tenant: str, image_id: str, model: PromptableModel, mask_id: str, field: str
    ) -> Float32:
        """Return the logits [h, w] of a mask.

        Raises MaskNotFound, naming the field, also if the mask is of another model; CacheUnavailable.
        """
        if not mask_id.startswith(f"{model.bundle.digest[:DIGEST_DIGITS]}-"):
            raise MaskNotFound(mask_id, field)
        logits = self._held.get((tenant, image_id, mask_id))
        if logits is None:
            logits = await self._cache.get_mask(tenant, image_id, mask_id)
        if logits is None:
            await asyncio.sleep(REPLICA_WRITE_GRACE_S)
            logits = await self._cache.get_mask(tenant, image_id, mask_id)
        if logits is None:
            raise MaskNotFound(mask_id, field)
        # Rounded to fp16 in any case, so that the answer does not depend on where the mask was found.
        return logits.astype(np.float16).astype(np.float32)

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of the masks held in this process."""
        return {key[:2] for key in self._held}

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop the masks of an image from this process."""
        for key in [k for k in self._held if k[:2] == (tenant, image_id)]:
            self._held.pop(key, None)


def create_mask_id(model: PromptableModel, region: Region | None) -> str:
    """Return a new random id that names the model, and the region of the image if there is one."""
    middle = [] if region is None else [format_region(region)]
    return "-".join([model.bundle.digest[:DIGEST_DIGITS], *middle, secrets.token_hex(12)])


def convert_to_fp16(masks: dict[str, Float32]) -> dict[str, Float16]:
    return {mask_id: logits.astype(np.float16) for mask_id, logits in masks.items()}
