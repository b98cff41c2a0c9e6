"""Estimate from the header how much memory an image takes while it is read, before anything is decoded.

An estimate is an upper bound of the process's growth at its peak, for every format and path. tests/images/
test_memory_estimate.py measures real peaks against it.
"""

from segserve.images.image_source import ImageSource
from segserve.images.no_data import widened_dtype
from segserve.images.normalise import PERCENTILES, is_8_bit_already, is_countable
from segserve.images.tile_pyramid import TILE_SIDE_PX
from segserve.types import ReadOptions

# What does not grow with the image: blocks of temporary values, tables of codecs, buffers of libvips.
FIXED_BYTES = 48 << 20
# Bytes of an RGB pixel.
RGB_BYTES = 3
# An estimate is of what is used. Address space is more: heaps have gaps, and frames are normalised after reading.
ADDRESS_SPACE_FACTOR = 3
# Copies of a row of tiles that the pyramid holds: the rows of all levels, their sums as uint16, their means.
PYRAMID_COPIES = 5


def estimate_read_bytes(source: ImageSource, options: ReadOptions) -> int:
    """Return the peak memory in bytes of `read_image.decode_source`, its result included."""
    pixels = source.size.height * source.size.width
    # After decoding: the samples, RGB, and a copy of RGB that is turned or contiguous.
    converted = pixels * (_conversion_bytes(source, options) + 2 * RGB_BYTES)
    return FIXED_BYTES + max(source.memory.read_bytes, source.decoded_bytes + converted)


def estimate_pyramid_bytes(source: ImageSource, options: ReadOptions) -> int:
    """Return the peak memory in bytes of `tile_pyramid.write_pyramid`."""
    memory, size = source.memory, source.size
    converted = min(memory.band_rows, size.height) * size.width * (_conversion_bytes(source, options) + 6)
    levels = PYRAMID_COPIES * min(TILE_SIDE_PX, size.height) * size.width * RGB_BYTES
    if source.bands is not None:
        return FIXED_BYTES + memory.band_bytes + converted + levels
    return FIXED_BYTES + max(memory.read_bytes, source.decoded_bytes + converted + levels)


def _conversion_bytes(source: ImageSource, options: ReadOptions) -> int:
    """Return the bytes a pixel of the selected channels, of their 8-bit values, and of what percentiles sort."""
    dtype, channels = source.memory.dtype, min(3, source.memory.channels)
    selected = 0 if options.channels is None else len(options.channels) * dtype.itemsize
    selected += (options.stain is not None) + RGB_BYTES * options.invert
    if is_8_bit_already(dtype, options.normalise):
        return selected
    widened = 0
    if source.no_data is not None:  # every selected channel with NaN
        dtype = widened_dtype(dtype)
        widened = len(options.channels or range(channels)) * dtype.itemsize
    sorting = 0
    if options.normalise in PERCENTILES and not is_countable(dtype):
        sorting = 1 + dtype.itemsize + 8  # whether a value is finite, the finite values, and these as float64
    return selected + widened + channels + sorting
