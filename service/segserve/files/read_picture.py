"""Read one picture, in the sandboxed process that has opened it: of a stack or a zip, or for the service to store."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.files.open_picture_entry import open_picture_entry
from segserve.images.image_source import ImageSource, RawPixels
from segserve.images.memory_estimate import ADDRESS_SPACE_FACTOR, FIXED_BYTES, RGB_BYTES, estimate_read_bytes
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import select_channels
from segserve.sandbox.confine import allow_memory
from segserve.types import ReadOptions


def read_picture(stream: BinaryIO, page: int, max_pixels: int) -> NDArray[Any]:
    """Return a picture, [H, W, 1 to 3], in its own dtype and turned as it states.

    Lets this process take what the picture's header says that it needs. Raises BadInput, TooLarge, MemoryError.
    """
    with open_picture_entry(stream, page, max_pixels, max_pixels) as opened:
        source = opened.source
        # The service has the frame in RGB twice.
        frame_bytes = 2 * RGB_BYTES * source.size.height * source.size.width
        used = estimate_read_bytes(source, ReadOptions()) + frame_bytes
        allow_memory(ADDRESS_SPACE_FACTOR * used, used=used)
        pixels = source.read()
    return apply_orientation(select_channels(pixels.values, pixels.has_alpha, None), pixels.orientation)


class SharedPicture:
    """`SharedPicture` decodes a picture for the service, which asks for its header before, and copies the pixels after.

    The service has taken what decoding needs from its budget, so nothing is claimed here.

    values: what was decoded last, [h, W, C].
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._bands: Iterator[RawPixels] = iter(())
        self.values: NDArray[Any] = np.empty((0, 0, 0), np.uint8)

    def describe(self) -> dict[str, Any]:
        """Return the header, as `sandboxed_image.ImageReply`."""
        source, memory = self._source, self._source.memory
        return {
            "size": {"height": source.size.height, "width": source.size.width},
            "orientation": source.orientation,
            "memory": {
                "channels": memory.channels,
                "dtype": memory.dtype.name,
                "read_bytes": memory.read_bytes,
                "band_rows": memory.band_rows,
                "band_bytes": memory.band_bytes,
            },
            "has_bands": source.bands is not None,
            "no_data": source.no_data,
            "pages": source.pages,
        }

    def read(self) -> dict[str, Any]:
        """Decode all pixels, and return their `sandboxed_image.PixelsReply`."""
        allow_memory(ADDRESS_SPACE_FACTOR * estimate_read_bytes(self._source, ReadOptions()), used=0)
        return self._keep(self._source.read())

    def start_bands(self) -> None:
        """Begin to read bands from the top."""
        assert self._source.bands is not None
        allow_memory(ADDRESS_SPACE_FACTOR * (FIXED_BYTES + self._source.memory.band_bytes), used=0)
        self._bands = self._source.bands()

    def read_band(self) -> dict[str, Any]:
        """Decode the next band, and return its `sandboxed_image.PixelsReply`."""
        return self._keep(next(self._bands, None))

    def _keep(self, pixels: RawPixels | None) -> dict[str, Any]:
        if pixels is None:
            return {"shape": None, "dtype": "uint8", "has_alpha": False}
        self.values = pixels.values
        return {
            "shape": pixels.values.shape,
            "dtype": pixels.values.dtype.name,
            "has_alpha": pixels.has_alpha,
        }
