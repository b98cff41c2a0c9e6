"""TIFF, by tifffile and imagecodecs."""

import math
import re
from functools import partial
from operator import index
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import TIFF, TiffFile, TiffPage

from segserve.errors import TooLarge
from segserve.images.image_source import (
    ImageSource,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
    wrap_codec_errors,
)
from segserve.images.tiff.bands import can_read_in_bands, read_bands
from segserve.images.tiff.directories import read_directory_offsets
from segserve.images.tiff.photometric import SUPPORTED_PHOTOMETRIC, SampleFormat
from segserve.images.tiff.plane import JPEG, TiffPlane, check_jpeg_headers, join_planes
from segserve.types import Size

# Four channels of float32. Together with the limit of pixels this bounds the memory for decoded samples.
_MAX_BYTES_PER_PIXEL = 16
# None, LZW, JPEG, deflate (two numbers), PackBits, zstd. For all but JPEG the decoder is told how many bytes
# may come out; others (JPEG 2000, LZMA, ...) take memory as their own headers say.
_COMPRESSIONS = (1, 5, JPEG, 8, 32946, 32773, 50000)
# The variants of microscopes' makers are kept out: their readers open further files and trust all they read.
_PLAIN = {f"is_{maker}": False for maker in TIFF.FILE_FLAGS}


def open_tiff(stream: BinaryIO, page: int, max_pixels: int, max_banded: int) -> ImageSource:
    """Samples of a pixel are channels, planar or not. So are the channels of ImageJ and OME files, which are
    directories of their own; `page` then counts the positions in z and time. max_banded: pixels of an image
    that can be read in bands."""
    file, offsets, channels, stride = _look(stream)
    check_page(page, len(offsets) // channels)
    start = page % stride + page // stride * stride * channels
    planes = [_plane(file, stream, offsets[start + stride * channel]) for channel in range(channels)]
    limit = max_banded if (banded := can_read_in_bands(planes)) else max_pixels
    check_size(planes[0].width, planes[0].height, limit)
    _check(planes, stream, limit)
    size = Size(planes[0].height, planes[0].width)
    bands = partial(read_bands, planes) if banded else None
    return ImageSource(size, planes[0].orientation, partial(_read, planes), bands)


def count_pages(stream: BinaryIO) -> int:
    """How many pages `open_tiff` can open. Raises BadInput, TooLarge."""
    _, offsets, channels, _ = _look(stream)
    return len(offsets) // channels


def _look(stream: BinaryIO) -> tuple[TiffFile, list[int], int, int]:
    """The opened file, its directories, and over how many of them, how far apart, the channels of a page are."""
    offsets = read_directory_offsets(stream)
    with wrap_codec_errors("TIFF"):
        stream.seek(0)
        file = TiffFile(stream, name="upload.tif", **_PLAIN)  # a spooled file has no name of its own
        first = file.pages.first
        channels, stride = _channel_layout(str(first.description), index(first.samplesperpixel), len(offsets))
    return file, offsets, channels, stride


def _read(planes: list[TiffPlane]) -> RawPixels:
    return join_planes(planes, [_decode(plane) for plane in planes])


def _channel_layout(description: str, samples: int, directories: int) -> tuple[int, int]:
    """(channels, stride): over how many directories the channels of a page are spread, and how many
    directories apart they are. ImageJ varies channels first; OME states the order."""
    sizes = {"C": 1, "Z": 1, "T": 1}
    order = "XYCZT"
    if description.startswith("ImageJ="):
        found = re.search(r"^channels=(\d{1,4})\b", description, re.MULTILINE)
        sizes["C"] = int(found[1]) if found else 1
    elif pixels := re.search(r"<(?:\w+:)?Pixels\b[^>]{0,2000}>", description):
        named = dict(re.findall(r'(\w+)="(\w+)"', pixels[0]))
        order = named.get("DimensionOrder", order)
        sizes = {axis: int(named.get(f"Size{axis}", "1")) for axis in sizes}
    channels = sizes["C"]
    stride = math.prod(sizes[axis] for axis in order[: order.index("C")] if axis in sizes)
    # Colour in one directory has its channels there. A file cut from a larger one is read as plain pages.
    if samples > 1 or channels < 1 or stride < 1 or directories % (channels * stride):
        return 1, 1
    return channels, stride


def _plane(file: TiffFile, stream: BinaryIO, offset: int) -> TiffPlane:
    """Reads a directory. Whatever of it is used is made a number here; what a tag holds may be anything."""
    with wrap_codec_errors("TIFF"):
        stream.seek(offset)
        page = TiffPage(file, 0)
        if page.dtype is None or page.dtype.kind not in "buif" or page.jpegheader is not None:
            raise unsupported_error("This type of TIFF sample")
        if page.compression not in _COMPRESSIONS:
            raise unsupported_error("This compression of TIFF")
        kind = SampleFormat(
            photometric=index(page.photometric),
            bits=index(page.bitspersample),
            has_alpha=any(index(extra) in (1, 2) for extra in page.extrasamples[-1:]),
            colours=page.colormap,
        )
        if kind.photometric not in SUPPORTED_PHOTOMETRIC or (
            kind.photometric == 6 and page.compression != JPEG
        ):
            raise unsupported_error("This colour space of TIFF")
        if index(page.imagedepth) != 1 or index(page.tiledepth) != 1:
            raise unsupported_error("A TIFF page with depth")
        width, height = index(page.imagewidth), index(page.imagelength)
        samples, planar = index(page.samplesperpixel), index(page.planarconfig) == 2
        chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        segments = zip(page.dataoffsets, page.databytecounts, strict=True)
        return TiffPlane(
            page=page,
            width=width,
            height=height,
            samples=samples,
            item_bytes=page.dtype.itemsize,
            kind=kind,
            orientation=_orientation(page),
            chunk=(index(chunk[0]), index(chunk[1])),
            chunk_samples=1 if planar else samples,
            segments=tuple((index(offset), index(count)) for offset, count in segments),
        )


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(274, default=1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check(planes: list[TiffPlane], stream: BinaryIO, max_pixels: int) -> None:
    """Refuses what does not fit together, lies outside of the file or decodes to too much."""
    first = planes[0]
    file_bytes = stream.seek(0, 2)
    for plane in planes:
        if min(plane.samples, *plane.chunk) < 1 or len(plane.segments) < plane.chunks:
            raise damaged_file_error("TIFF")
        if any(min(offset, count) < 0 or offset + count > file_bytes for offset, count in plane.segments):
            raise damaged_file_error("TIFF")
        # A byte belongs to one strip: else a small file could be decoded over and over.
        if sum(count for _, count in plane.segments) > file_bytes:
            raise damaged_file_error("TIFF")
        if (plane.width, plane.height, plane.page.dtype) != (first.width, first.height, first.page.dtype):
            raise unsupported_error("A TIFF whose channels differ in size or type")
    limit = max_pixels * _MAX_BYTES_PER_PIXEL
    if sum(plane.decoded_bytes for plane in planes) > limit:
        raise TooLarge(
            "The image's samples need too much memory.",
            remedy=f"At most {limit} bytes are decoded: save fewer channels or fewer bits.",
            field="file",
        )


def _decode(plane: TiffPlane) -> NDArray[Any]:
    """[H, W, samples], in the machine's byte order."""
    if plane.page.compression == JPEG:
        check_jpeg_headers(plane)
    with wrap_codec_errors("TIFF"):
        # [planar sample, 1, H, W, sample]; one thread, for how much is done at once is the caller's to decide
        stored: NDArray[Any] = plane.page.asarray(squeeze=False, maxworkers=1)
        samples = np.moveaxis(stored[:, 0, :, :, 0], 0, -1) if len(stored) > 1 else stored[0, 0]
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
