"""`TiffPlane`: one directory of a TIFF file that holds an image, as checked numbers."""

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from segserve.images.image_source import RawPixels, damaged_file_error, wrap_codec_errors
from segserve.images.raster.jpeg_layout import JpegLayout, check_jpeg_scans, read_jpeg_layout
from segserve.images.tiff.photometric import SampleFormat, samples_to_channels

# TIFF's number of the JPEG compression.
JPEG = 7


@dataclass(frozen=True)
class TiffPlane:
    """`TiffPlane` is one directory with an image: its tags as checked numbers.

    samples: samples a pixel.
    item_bytes: bytes a sample.
    chunk: height and width of a strip or tile, in pixels.
    chunk_samples: samples a pixel in one strip or tile; 1 where each sample has strips or tiles of its own.
    segments: offset and size in bytes of every strip or tile.
    number: of the plane, from 0, where several lie behind one directory; see `contiguous_planes.py`.
    """

    page: TiffPage
    width: int
    height: int
    samples: int
    item_bytes: int
    sample_format: SampleFormat
    orientation: int
    chunk: tuple[int, int]
    chunk_samples: int
    segments: tuple[tuple[int, int], ...]
    number: int = 0

    @property
    def no_data(self) -> float | None:
        """Return the value of uint8 samples that counts as NaN; see `RawPixels`."""
        return self.sample_format.no_data if self.page.dtype == np.uint8 else None

    @property
    def chunks(self) -> int:
        """Return the number of strips or tiles that the image needs."""
        height, width = self.chunk
        across, down = math.ceil(self.width / width), math.ceil(self.height / height)
        return across * down * (self.samples // self.chunk_samples)

    @property
    def chunk_bytes(self) -> int:
        """Return the size of one decoded strip or tile."""
        return math.prod(self.chunk) * self.chunk_samples * self.item_bytes

    @property
    def decoded_bytes(self) -> int:
        """Return the size of all decoded strips or tiles, which may extend beyond the image's edge."""
        return self.chunks * self.chunk_bytes


def join_planes(planes: list[TiffPlane], decoded: list[NDArray[Any]]) -> RawPixels:
    """Return the planes' decoded samples [h, W, samples] as the channels of one image."""
    channels = [
        samples_to_channels(samples, plane.sample_format)
        for samples, plane in zip(decoded, planes, strict=True)
    ]
    if len(channels) == 1:
        return RawPixels(*channels[0], planes[0].orientation, planes[0].no_data)
    joined = np.concatenate([values for values, _ in channels], axis=2)
    return RawPixels(joined, False, planes[0].orientation, planes[0].no_data)


def check_jpeg_headers(plane: TiffPlane) -> None:
    """Raise BadInput where an embedded JPEG's size differs from the directory's, TooLarge for too many scans.

    The JPEG's own header decides how much memory and time its decoder takes.
    """
    handle = plane.page.parent.filehandle
    height, width = plane.chunk
    layouts: list[JpegLayout] = []
    with wrap_codec_errors("TIFF"):
        tables = plane.page.jpegtables
        if isinstance(tables, bytes):
            layouts.append(read_jpeg_layout(BytesIO(tables)))
        for offset, count in plane.segments:
            handle.seek(offset)
            layouts.append(read_jpeg_layout(BytesIO(handle.read(count))))
    # Some writers round sizes up to a whole number of 16-pixel blocks.
    frames = [frame for layout in layouts for frame in layout.frames]
    if any(lines > height + 15 or columns > width + 15 for lines, columns in frames):
        raise damaged_file_error("TIFF")
    check_jpeg_scans(max(layout.scans for layout in layouts), sum(layout.scan_blocks for layout in layouts))
