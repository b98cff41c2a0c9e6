"""Decode one picture in a sandboxed process: what `images.image_library.ImageLibrary` calls for formats that need it.

The process opens the file by `open_file.open_picture`. It is asked for the header first, so that memory can be taken
from the budget before it decodes, and then for all pixels, or for bands of a large image.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from segserve.errors import Busy
from segserve.fair_semaphore import FairSemaphore
from segserve.files.file_readers import (
    DTYPES,
    Count,
    FileProcess,
    FileReaders,
    Number,
    Reply,
    SizeReply,
    broken_file_error,
)
from segserve.images.image_source import DecodingMemory, ImageSource, RawPixels, check_size
from segserve.images.memory_estimate import FIXED_BYTES
from segserve.sandbox.shared_pixels import SharedPixels
from segserve.temporary_files import translate_disk_full
from segserve.types import Size

COPY_CHUNK_BYTES = 1 << 20
# Pictures that are open in a process at the same time, those that wait for memory or to be cut into tiles included.
MAX_OPEN_IMAGES = 8
MAX_SLOT_WAIT_S = 60.0
IMAGE_DTYPES = DTYPES | {"float16", "bool"}
MAX_CHANNELS = 1 << 12


class MemoryReply(Reply):
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    dtype: str
    read_bytes: Annotated[int, Field(ge=0, le=1 << 50)]
    band_rows: Count
    band_bytes: Annotated[int, Field(ge=0, le=1 << 50)]


class ImageReply(Reply):
    size: SizeReply
    orientation: Annotated[int, Field(ge=1, le=8)]
    memory: MemoryReply
    has_bands: bool
    no_data: Number | None
    pages: Annotated[int, Field(ge=1, le=1 << 31)]


class PixelsReply(Reply):
    """shape: of the decoded pixels; None after the last band."""

    shape: tuple[Count, Count, Count] | None
    dtype: str
    has_alpha: bool


class SandboxedImages:
    """`SandboxedImages` opens pictures of any format that is read.

    readers: have threads for pictures. A process that has read a header holds nothing of their memory budget: whoever
    decodes takes what `ImageSource.memory` says, the process's part included.
    """

    def __init__(self, readers: FileReaders) -> None:
        self._readers, self._slots = readers, FairSemaphore(MAX_OPEN_IMAGES)

    @asynccontextmanager
    async def open_image(
        self, file: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
    ) -> AsyncIterator[ImageSource]:
        """Open a picture while the block runs. When the block ends, whoever still reads it gets Unavailable.

        max_pixels, max_banded_pixels: as of `read_image.open_image`.

        The source's `read` blocks, may be called once, and ends the process. Raises BadInput, TooLarge,
        UnsupportedFormat, MissingDependency, Busy, Unavailable, StorageFull.
        """
        async with self._take_slot(), self._open(file, page, max_pixels, max_banded_pixels) as source:
            yield source

    @asynccontextmanager
    async def _take_slot(self) -> AsyncIterator[None]:
        """Wait in turn until few enough images are open. Raises Busy."""
        try:
            await self._slots.acquire(1, MAX_SLOT_WAIT_S)
        except TimeoutError:
            raise Busy(
                "Too many images are decoded at the same time.", remedy="Try again soon.", retry_after_s=10
            ) from None
        try:
            yield
        finally:
            self._slots.release(1)

    @asynccontextmanager
    async def _open(
        self, file: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
    ) -> AsyncIterator[ImageSource]:
        readers = self._readers.group()
        with translate_disk_full(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image"

            opened: list[ProcessImage] = []

            def copy_and_open() -> ImageSource:
                file.seek(0)
                with path.open("wb") as out:
                    shutil.copyfileobj(file, out, COPY_CHUNK_BYTES)
                opened.append(open_in_process(readers, path, page, max_pixels, max_banded_pixels))
                return opened[0].source

            try:
                yield await readers.run(copy_and_open)
            finally:
                readers.kill()
                for image in opened:  # also where the caller was cancelled while it opened
                    await asyncio.shield(asyncio.to_thread(image.close))


def open_in_process(
    readers: FileReaders, path: Path, page: int, max_pixels: int, max_banded_pixels: int
) -> "ProcessImage":
    """Open a picture in a process of its own. The caller closes it.

    Blocks. Raises as `SandboxedImages.open_image` does.
    """
    process = readers.open_process(path)
    try:
        request = {
            "operation": "open_image",
            "page": page,
            "max_pixels": max_pixels,
            "max_banded_pixels": max_banded_pixels,
        }
        reply = process.call(ImageReply, request)
        if reply.memory.dtype not in IMAGE_DTYPES:
            raise broken_file_error()
        size = Size(reply.size.height, reply.size.width)
        check_size(size.width, size.height, max_banded_pixels if reply.has_bands else max_pixels)
        process.give_memory_back()
        return ProcessImage(process, reply, size)
    except BaseException:
        process.close()
        raise


class ProcessImage:
    """`ProcessImage` is a picture that a process has opened, and its source."""

    def __init__(self, process: FileProcess, reply: ImageReply, size: Size) -> None:
        self._process, self._reply, self._size = process, reply, size
        self._max_sample_bytes = reply.memory.channels * np.dtype(reply.memory.dtype).itemsize
        memory, pixels = reply.memory, size.height * size.width
        band = memory.band_rows * size.width * self._max_sample_bytes
        self.source = ImageSource(
            size,
            reply.orientation,
            # The process's own, and the pixels that it shares with this one.
            DecodingMemory(
                memory.channels,
                np.dtype(memory.dtype),
                FIXED_BYTES + memory.read_bytes + pixels * self._max_sample_bytes,
                memory.band_rows,
                FIXED_BYTES + memory.band_bytes + band,
            ),
            self._read,
            self._bands if reply.has_bands else None,
            reply.no_data,
            reply.pages,
        )

    def close(self) -> None:
        """End the process. Waits until it has ended."""
        self._process.close()

    def _read(self) -> RawPixels:
        pixels = self._receive("read_image", self._size.height)
        if pixels is None or len(pixels.values) != self._size.height:
            raise broken_file_error()
        return pixels

    def _bands(self) -> Iterator[RawPixels]:
        self._process.call(Reply, {"operation": "start_bands"})
        left = self._size.height
        while left:
            band = self._receive("read_band", left)
            if band is None:
                raise broken_file_error()
            left -= len(band.values)
            yield band

    def _receive(self, operation: str, max_rows: int) -> RawPixels | None:
        """Return the pixels that the process decodes for an operation, at most `max_rows` rows of the image."""
        reply = self._process.call(PixelsReply, {"operation": operation})
        if reply.shape is None:
            return None
        rows, columns, channels = reply.shape
        if reply.dtype not in IMAGE_DTYPES or rows > max_rows or columns != self._size.width:
            raise broken_file_error()
        if channels * np.dtype(reply.dtype).itemsize > self._max_sample_bytes:
            raise broken_file_error()
        shared = SharedPixels(reply.shape, reply.dtype)
        try:
            self._process.call(Reply, {"operation": "write_pixels"}, shared.descriptor)
            if operation == "read_image":
                self._process.close()
            values: NDArray[Any] = shared.view() if operation == "read_image" else shared.copy()
            return RawPixels(values, reply.has_alpha, self._reply.orientation, self._reply.no_data)
        finally:
            shared.close()
