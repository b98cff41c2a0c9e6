"""Embeddings of video frames and slices, which are not stored images: their key is the file and the position in it.

held in this process -> in Redis -> encoded from the pixels
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

import imagecodecs

from segserve.current_client import current_client
from segserve.encode.encode_request import Encoder, EncodeRequest, ImageBytes
from segserve.encode.prepared_cache import EmbeddingKey, PreparedCache, PreparedImage
from segserve.models.promptable_model import PromptableModel
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import Embedding, Priority, ReadOptions, Region, Size, UInt8


class FrameEmbeddings:
    """`FrameEmbeddings` finds the prepared embedding of a frame, or has it encoded. pool: threads for short work."""

    def __init__(self, cache: RedisCache, prepared: PreparedCache, encoder: Encoder, pool: Executor) -> None:
        self._cache, self._prepared, self._encoder, self._pool = cache, prepared, encoder, pool

    async def get_prepared(
        self,
        tenant: str,
        name: str,
        model: PromptableModel,
        pixels: UInt8 | Callable[[], Awaitable[UInt8]],
        priority: Priority,
        timings: Timings,
        *,
        region: Region | None = None,
    ) -> PreparedImage:
        """Return the prepared embedding of a frame.

        name: of the frame; the same name stands for the same pixels.
        pixels: [H, W, 3], or a function that reads them.
        region: leaves room beside the frame, from its top left corner; None: the frame fills the model's input.

        Raises CacheUnavailable, Busy, OutOfMemory, and what `pixels` raises.
        """
        key = EmbeddingKey(tenant, name, model.embedding_digest, region)
        if (held := self._prepared.get(key)) is not None:
            return held
        loop = asyncio.get_running_loop()
        values = await pixels() if callable(pixels) else pixels
        embedding = await self._cache.get_embedding(tenant, name, key.digest, region)
        if embedding is None:
            embedding = await self._encode(key, model, values, priority, timings)
        prepared = await loop.run_in_executor(self._pool, model.prepare, embedding, None)
        size = Size(*values.shape[:2]) if region is None else region.size
        image = PreparedImage(size, embedding, prepared)
        self._prepared.put(key, image)
        return image

    async def _encode(
        self, key: EmbeddingKey, model: PromptableModel, values: UInt8, priority: Priority, timings: Timings
    ) -> Embedding:
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._pool, lambda: bytes(imagecodecs.png_encode(values, level=1)))
        image = ImageBytes(data, ReadOptions())
        shown = None if key.region is None else Size(*values.shape[:2])
        request = EncodeRequest(
            key.tenant,
            key.image_id,
            model.name,
            key.digest,
            priority,
            image=image,
            region=key.region,
            source=current_client.get().source,
            shown=shown,
        )
        return unpack_embedding(await self._encoder.encode(request, timings))
