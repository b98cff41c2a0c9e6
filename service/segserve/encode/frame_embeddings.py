"""Embeddings of frames and slices, which are no stored images: by the name of their file and their place in it.

held in this process -> in Redis -> encoded from the pixels
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

import imagecodecs

from segserve.encode.encoder import Encoder, EncodeRequest, ImageBytes
from segserve.encode.prepared_cache import EmbeddingKey, PreparedCache, PreparedImage
from segserve.models.promptable_model import PromptableModel
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import Embedding, Priority, ReadOptions, Size, UInt8


class FrameEmbeddings:
    """workers: run short work."""

    def __init__(
        self, cache: RedisCache, prepared: PreparedCache, encoder: Encoder, workers: Executor
    ) -> None:
        self._cache, self._prepared, self._encoder, self._workers = cache, prepared, encoder, workers

    async def get_prepared(
        self,
        tenant: str,
        name: str,
        model: PromptableModel,
        pixels: UInt8 | Callable[[], Awaitable[UInt8]],
        priority: Priority,
        timings: Timings,
    ) -> PreparedImage:
        """name: of the frame, the same for the same pixels. pixels: [H, W, 3], or what reads them. Raises
        CacheUnavailable, Busy, OutOfMemory, and what `pixels` raises."""
        key = EmbeddingKey(tenant, name, model.bundle.digest)
        if (held := self._prepared.get(key)) is not None:
            return held
        loop = asyncio.get_running_loop()
        values = await pixels() if callable(pixels) else pixels
        embedding = await self._cache.get_embedding(tenant, name, key.digest)
        if embedding is None:
            embedding = await self._encode(key, model, values, priority, timings)
        prepared = await loop.run_in_executor(self._workers, model.prepare, embedding, None)
        image = PreparedImage(Size(*values.shape[:2]), embedding, prepared)
        self._prepared.put(key, image)
        return image

    async def _encode(
        self, key: EmbeddingKey, model: PromptableModel, values: UInt8, priority: Priority, timings: Timings
    ) -> Embedding:
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(
            self._workers, lambda: bytes(imagecodecs.png_encode(values, level=1))
        )
        image = ImageBytes(data, ReadOptions())
        wanted = EncodeRequest(key.tenant, key.image_id, model.name, key.digest, priority, image=image)
        return unpack_embedding(await self._encoder.encode(wanted, timings))
