"""One directory of a TIFF file that holds an image, and what is done with its samples."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from segserve.images.image_source import RawPixels, damaged_file_error, wrap_codec_errors
from segserve.images.raster.jpeg_header import read_frame_sizes
from segserve.images.tiff.photometric import SampleFormat, samples_to_channels

JPEG = 7  # TIFF's number of the compression


@dataclass(frozen=True)
class TiffPlane:
    """One directory with an image, its tags as checked numbers."""

    page: TiffPage
    width: int
    height: int
    samples: int
    item_bytes: int
    kind: SampleFormat
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


def join_planes(planes: list[TiffPlane], decoded: list[NDArray[Any]]) -> RawPixels:
    """The planes' samples [h, W, samples] as channels."""
    found = [samples_to_channels(values, plane.kind) for values, plane in zip(decoded, planes, strict=True)]
    if len(found) == 1:
        return RawPixels(*found[0], planes[0].orientation)
    return RawPixels(np.concatenate([values for values, _ in found], axis=2), False, planes[0].orientation)


def check_jpeg_headers(plane: TiffPlane) -> None:
    """A JPEG's own header says how much memory its decoder takes; it must say what the directory says."""
    handle = plane.page.parent.filehandle
    height, width = plane.chunk
    with wrap_codec_errors("TIFF"):
        tables = plane.page.jpegtables
        sizes = read_frame_sizes(tables) if isinstance(tables, bytes) else []
        for offset, count in plane.segments:
            handle.seek(offset)
            sizes.extend(read_frame_sizes(handle.read(count)))
    # Up to a whole number of 16-pixel blocks, as some writers do.
    if any(lines > height + 15 or columns > width + 15 for lines, columns in sizes):
        raise damaged_file_error("TIFF")
