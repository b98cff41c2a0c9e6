"""Prepared embeddings held in this process: what makes the next click on an image cheap."""

from dataclasses import dataclass

from cachetools import LRUCache

from segserve.models.onnx_runtime import HostOrDeviceArrays
from segserve.types import Embedding, Region, Size


@dataclass(frozen=True)
class PreparedImage:
    """size: of what was encoded, an image or a region of one. embedding: fp16, as cached, to prepare again for a
    prior mask. prepared: fp32, as the decoder reads it, and where: on a GPU it is held there."""

    size: Size
    embedding: Embedding
    prepared: HostOrDeviceArrays

    @property
    def nbytes(self) -> int:
        """In the host's memory and the device's together."""
        return sum(a.nbytes for arrays in (self.embedding, self.prepared) for a in arrays.values())


@dataclass(frozen=True)
class EmbeddingKey:
    """region: of the image; None is all of it."""

    tenant: str
    image_id: str
    digest: str
    region: Region | None = None


class PreparedCache:
    """Least recently used out, by bytes. For one thread: the event loop's."""

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
        """One that is larger than the whole cache is not kept."""
        if image.nbytes <= self._max_bytes:
            others = len(self._held) - (key in self._held)
            self._held[key] = image
            self.evicted += others + 1 - len(self._held)

    def forget(self, tenant: str, image_id: str) -> None:
        for key in [k for k in self._held if (k.tenant, k.image_id) == (tenant, image_id)]:
            del self._held[key]

    def held_images(self) -> set[tuple[str, str]]:
        """(tenant, image_id) of everything held."""
        return {(key.tenant, key.image_id) for key in self._held}
