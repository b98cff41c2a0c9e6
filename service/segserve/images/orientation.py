"""Images as they are stored and as they are meant to be seen: the eight cases of EXIF 2.3, 4.6.4."""

import numpy as np

from segserve.types import Region, Size, UInt8

_MIRRORED = (2, 3, 7, 8)  # left and right change places
_FLIPPED = (3, 4, 6, 7)  # top and bottom do
_TURNED = 5  # from here on, after that, rows and columns do


def apply_orientation(image: UInt8, orientation: int) -> UInt8:
    """[H, W, C] as it is meant to be seen."""
    if orientation in _MIRRORED:
        image = image[:, ::-1]
    if orientation in _FLIPPED:
        image = image[::-1]
    if orientation >= _TURNED:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image)


def oriented_size(size: Size, orientation: int) -> Size:
    return Size(size.width, size.height) if orientation >= _TURNED else size


def to_stored_region(region: Region, size: Size, orientation: int) -> Region:
    """Where a region of the turned image lies in the image as stored; `size` is the turned one's."""
    x, y, width, height = region.x, region.y, region.width, region.height
    if orientation >= _TURNED:
        x, y, width, height, size = y, x, height, width, Size(size.width, size.height)
    if orientation in _MIRRORED:
        x = size.width - x - width
    if orientation in _FLIPPED:
        y = size.height - y - height
    return Region(x, y, width, height)
