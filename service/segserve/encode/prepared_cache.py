"""Prepared embeddings held in this process (an LRU cache): they make the next click on an image cheap."""

from dataclasses import dataclass

from cachetools import LRUCache

from segserve.models.runtime.graph import HostOrDeviceArrays
from segserve.types import Embedding, Region, Size


@dataclass(frozen=True)
class PreparedImage:
    """An embedding, ready to decode prompts with.

    size: of what was encoded, an image or a region of one.
    embedding: fp16, as in Redis; needed to prepare again with a prior mask.
    prepared: fp32, as the decoder reads it, in the memory of the device that decodes.
    """

    size: Size
    embedding: Embedding
    prepared: HostOrDeviceArrays

    @property
    def nbytes(self) -> int:
        """Return the bytes in the host's memory and the device's together."""
        return sum(a.nbytes for arrays in (self.embedding, self.prepared) for a in arrays.values())


@dataclass(frozen=True)
class EmbeddingKey:
    """The identity of an embedding. digest: of the model's bundle. region: of the image; None is all of it."""

    tenant: str
    image_id: str
    digest: str
    region: Region | None = None


class PreparedCache:
    """`PreparedCache` holds prepared embeddings up to a number of bytes, and drops the least recently used.

    For one thread: the event loop's.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: LRUCache[EmbeddingKey, PreparedImage] = LRUCache(
            max_bytes, getsizeof=lambda image: image.nbytes
        )
        self.evicted = 0  # since the start

    @property
    def nbytes(self) -> int:
        return int(self._held.currsize)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: EmbeddingKey) -> PreparedImage | None:
        return self._held.get(key)

    def put(self, key: EmbeddingKey, image: PreparedImage) -> None:
        """Hold the image, unless it alone is larger than the whole cache."""
        if image.nbytes <= self._max_bytes:
            others = len(self._held) - (key in self._held)
            self._held[key] = image
            self.evicted += others + 1 - len(self._held)

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop everything of an image."""
        for key in [k for k in self._held if (k.tenant, k.image_id) == (tenant, image_id)]:
            del self._held[key]

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of everything held."""
        return {(key.tenant, key.image_id) for key in self._held}
