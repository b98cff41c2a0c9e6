"""One directory of a TIFF file that holds an image, and what is done with its samples."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from segserve.images.image_source import Pixels, codec, damaged
from segserve.images.raster.jpeg_header import frame_sizes
from segserve.images.tiff.photometric import Kind, to_channels

JPEG = 7  # TIFF's number of the compression


@dataclass(frozen=True)
class Plane:
    """One directory with an image, its tags as checked numbers."""

    page: TiffPage
    width: int
    height: int
    samples: int
    item_bytes: int
    kind: Kind
    orientation: int
    chunk: tuple[int, int]  # height and width of a strip or tile
    chunk_samples: int
    segments: tuple[tuple[int, int], ...]  # offset and number of bytes of every strip or tile

    @property
    def chunks(self) -> int:
        """How many strips or tiles there must be."""
        height, width = self.chunk
        across, down = math.ceil(self.width / width), math.ceil(self.height / height)
        return across * down * (self.samples // self.chunk_samples)

    @property
    def decoded_bytes(self) -> int:
        """Of all strips or tiles, which may stand out over the image's edge."""
        return self.chunks * math.prod(self.chunk) * self.chunk_samples * self.item_bytes


def joined(planes: list[Plane], decoded: list[NDArray[Any]]) -> Pixels:
    """The planes' samples [h, W, samples] as channels."""
    found = [to_channels(values, plane.kind) for values, plane in zip(decoded, planes, strict=True)]
    if len(found) == 1:
        return Pixels(*found[0], planes[0].orientation)
    return Pixels(np.concatenate([values for values, _ in found], axis=2), False, planes[0].orientation)


def check_jpeg(plane: Plane) -> None:
    """A JPEG's own header says how much memory its decoder takes; it must say what the directory says."""
    handle = plane.page.parent.filehandle
    height, width = plane.chunk
    with codec("TIFF"):
        tables = plane.page.jpegtables
        sizes = frame_sizes(tables) if isinstance(tables, bytes) else []
        for offset, count in plane.segments:
            handle.seek(offset)
            sizes.extend(frame_sizes(handle.read(count)))
    # Up to a whole number of 16-pixel blocks, as some writers do.
    if any(lines > height + 15 or columns > width + 15 for lines, columns in sizes):
        raise damaged("TIFF")
