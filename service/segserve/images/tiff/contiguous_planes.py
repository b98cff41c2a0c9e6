"""Planes that lie one after the other behind a single directory: ImageJ's stacks, tifffile's, and MetaMorph's STK."""

import json
import math
import re
from operator import index

from tifffile import TiffPage

from segserve.errors import BadInput
from segserve.images.image_source import damaged_file_error

_UIC2_TAG = 33629
MAX_PLANES = 1 << 16


def count_planes(page: TiffPage, file_bytes: int) -> int:
    """Return how many planes the only directory of a file stands for; 1 for a plain image.

    A file that was cut from a stack and has kept its description has one. Raises BadInput where planes are missing.
    """
    stated = _stated_planes(page)
    if stated <= 1 or not page.dataoffsets or not page.databytecounts:
        return 1
    available = (file_bytes - index(page.dataoffsets[0])) // measure_plane(page)
    if available >= stated:
        return stated
    if available <= 1:
        return 1
    raise BadInput(
        f"The TIFF states {stated} images, and there are {available} of them before the file ends.",
        field="file",
        remedy="Is it complete? Copy it again.",
    )


def measure_plane(page: TiffPage) -> int:
    """Return the bytes from the beginning of a plane to that of the next one (MetaMorph's definition)."""
    size = index(page.dataoffsets[-1]) + index(page.databytecounts[-1]) - index(page.dataoffsets[0])
    if size < 1:
        raise damaged_file_error("TIFF")
    return size


def _stated_planes(page: TiffPage) -> int:
    description = str(page.description)
    if description.startswith("ImageJ="):
        match = re.search(r"^images=(\d{1,9})\b", description, re.MULTILINE)
        planes = int(match[1]) if match else 1
    elif description.startswith('{"shape": ['):
        planes = _planes_of_shape(description, page)
    elif (tag := page.tags.get(_UIC2_TAG)) is not None:
        planes = index(tag.count)
    else:
        planes = 1
    if planes > MAX_PLANES:
        raise damaged_file_error("TIFF")
    return planes


def _planes_of_shape(description: str, page: TiffPage) -> int:
    """Return the planes of an array whose shape the description states, as tifffile writes it."""
    try:
        shape = [index(side) for side in json.loads(description)["shape"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 1
    samples = index(page.imagewidth) * index(page.imagelength) * index(page.samplesperpixel)
    total = math.prod(shape)
    return total // samples if samples > 0 and total % samples == 0 else 1
