"""What is asked of the service. No Qt here: all of it runs in a thread of its own, one request at a time."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve_client import Client, Frame, Image, Job, Mask, Model, StoredFile
from segserve_napari.marks import Marks

# Pictures that the service knows, so that the next click sends only the click.
MAX_KNOWN_IMAGES = 64
FOLLOWED = 1  # the number of the object in jobs


class Service:
    """`Service` sends pictures once and asks for masks. Every method blocks, and raises ClientError."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._images: OrderedDict[Hashable, Image] = OrderedDict()
        self._stacks: OrderedDict[Hashable, StoredFile] = OrderedDict()
        self._job: Job[Frame] | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            raise ValueError("Connect to a service first.")
        return self._client

    def connect(self, address: str, api_key: str | None = None) -> tuple[str, list[Model]]:
        """Return the version of the service and its models that take clicks.

        api_key: if left out, that of the environment variable SEGSERVE_API_KEY. Raises ValueError for one that is none.
        """
        client = Client(address, api_key=api_key)
        try:
            version = client.version()
            models = [model for model in client.models() if model.kind in ("sam", "sam2")]
        except BaseException:
            client.close()
            raise
        self.close()
        self._client = client
        self._images.clear()
        self._stacks.clear()
        return version, models

    def segment(self, read: Callable[[], NDArray[Any]], marks: Marks, model: str | None) -> Mask:
        """Return the mask of what is marked. read: returns the pixels of the slice; they are sent once."""
        pixels = read()
        key = (hash_pixels(pixels), model)
        image = self._images.get(key)
        if image is None:
            image = self.client.image(pixels, model=model)
            remember(self._images, key, image)
        prompt = marks.to_prompt()
        return image.segment(prompt.points, prompt.labels, prompt.box)

    def follow(
        self,
        read: Callable[[], NDArray[Any]],
        marks: Marks,
        number: int,
        model: str | None,
    ) -> Iterator[Frame]:
        """Yield the slices as the object is followed from slice `number`, both ways. read: returns the whole stack."""
        pixels = read()
        key = hash_pixels(pixels)
        stack = self._stacks.get(key)
        if stack is None:
            stack = self.client.upload(pixels)
            remember(self._stacks, key, stack)
        job = self.client.volume(stack, {FOLLOWED: marks.to_frame_prompt(number)}, model=model)
        self._job = job
        yield from job

    def close(self) -> None:
        """Close the connections. A request that is going on fails. Closing twice does no harm."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def stop_following(self) -> None:
        """Cancel the job that is going on, if there is one."""
        if self._job is not None and not self._job.refresh().has_ended:
            self._job.cancel()


def hash_pixels(pixels: NDArray[Any]) -> bytes:
    """Return what tells pixels from others. An array's id would not: it is used again."""
    content = np.ascontiguousarray(pixels)
    digest = hashlib.blake2b(repr((content.shape, content.dtype)).encode())
    digest.update(content.reshape(-1).view(np.uint8).data)
    return digest.digest()


def remember(known: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    known[key] = value
    while len(known) > MAX_KNOWN_IMAGES:
        known.popitem(last=False)
