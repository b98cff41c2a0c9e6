"""EXIF orientation (EXIF 2.3, section 4.6.4): rotate and mirror stored pixels to how they are meant to be viewed."""

import numpy as np

from segserve.types import Region, Size, UInt8

# The orientations in which left and right are swapped.
_MIRRORED = (2, 3, 7, 8)
# The orientations in which top and bottom are swapped.
_FLIPPED = (3, 4, 6, 7)
# From this orientation on, rows and columns are swapped after that.
_FIRST_TRANSPOSED = 5


def apply_orientation(image: UInt8, orientation: int) -> UInt8:
    """Return the image as it is meant to be viewed.

    image: [H, W, C] as stored. orientation: EXIF's number, 1 to 8.
    """
    if orientation in _MIRRORED:
        image = image[:, ::-1]
    if orientation in _FLIPPED:
        image = image[::-1]
    if orientation >= _FIRST_TRANSPOSED:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image)


def oriented_size(size: Size, orientation: int) -> Size:
    """Return the size after `apply_orientation` of an image of `size`."""
    return Size(size.width, size.height) if orientation >= _FIRST_TRANSPOSED else size


def to_stored_region(region: Region, size: Size, orientation: int) -> Region:
    """Return where a region of the oriented image lies in the image as stored.

    size: of the oriented image.
    """
    x, y, width, height = region.x, region.y, region.width, region.height
    if orientation >= _FIRST_TRANSPOSED:
        x, y, width, height, size = y, x, height, width, Size(size.width, size.height)
    if orientation in _MIRRORED:
        x = size.width - x - width
    if orientation in _FLIPPED:
        y = size.height - y - height
    return Region(x, y, width, height)
