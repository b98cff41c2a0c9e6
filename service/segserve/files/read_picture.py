"""Read one picture of a stack or a zip, in the sandboxed process that has opened it."""

from typing import Any, BinaryIO

from numpy.typing import NDArray

from segserve.images.memory_estimate import RGB_BYTES, estimate_read_bytes
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import open_image, select_channels
from segserve.sandbox.confine import allow_memory
from segserve.types import ReadOptions

# The estimate is of what is used. Address space is more: heaps have gaps, and frames are normalised after reading.
ADDRESS_SPACE_FACTOR = 3


def read_picture(stream: BinaryIO, page: int, max_pixels: int) -> NDArray[Any]:
    """Return a picture, [H, W, 1 to 3], in its own dtype and turned as it states.

    Lets this process take what the picture's header says that it needs. Raises BadInput, TooLarge, MemoryError.
    """
    source = open_image(stream, page, max_pixels, max_pixels)
    # The service has the frame in RGB twice.
    used = estimate_read_bytes(source, ReadOptions()) + 2 * RGB_BYTES * source.size.height * source.size.width
    allow_memory(ADDRESS_SPACE_FACTOR * used, used=used)
    pixels = source.read()
    return apply_orientation(select_channels(pixels.values, pixels.has_alpha, None), pixels.orientation)
