"""The request to an encoder, and the protocol of every encoder."""

from dataclasses import dataclass
from typing import Protocol

from segserve.current_client import Client
from segserve.encode.prepared_cache import EmbeddingKey
from segserve.timing import Timings
from segserve.types import Priority, ReadOptions, Region, Size


@dataclass(frozen=True)
class ImageBytes:
    """The pixels to encode, as an image file and the options to read it with."""

    data: bytes
    options: ReadOptions


@dataclass(frozen=True)
class EncodeRequest:
    """One image, or a region of it, to encode with one model.

    digest: of the model's bundle. A worker that has another version of the model refuses instead of answering wrongly.
    image: the pixels, for a worker that cannot reach the object store; of a region, its pixels alone.
    region: encoded as if it were an image; None is all of the image.
    source: of `client`, who waits for it. Tenants and clients take turns.
    shown: of a region that extends beyond the image, the part of it that `image` shows.
    """

    tenant: str
    image_id: str
    model: str
    digest: str
    priority: Priority = Priority.INTERACTIVE
    image: ImageBytes | None = None
    region: Region | None = None
    source: str | None = None
    shown: Size | None = None

    @property
    def client(self) -> Client:
        return Client(self.tenant, self.source)

    @property
    def key(self) -> EmbeddingKey:
        return EmbeddingKey(self.tenant, self.image_id, self.digest, self.region)


class Encoder(Protocol):
    """Encodes images: in this process (`LocalEncoder`), or on encoder workers (`RemoteEncoder`)."""

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        """Return the packed embedding, which is then in the cache too.

        Raises ImageNotFound, Busy, OutOfMemory, Unavailable.
        """
        ...

    def is_reachable(self) -> bool:
        """Return whether images can be encoded now. False where encoder workers are meant to, and none serves."""
        ...

    async def close(self) -> None:
        """Finish the requests that were accepted; refuse new ones."""
        ...
