"""Open a page of a TIFF file and decode it, with tifffile and imagecodecs."""

import math
import re
from dataclasses import replace
from enum import IntEnum
from functools import partial
from operator import index
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TIFF, TiffFile, TiffPage

from segserve.errors import TooLarge
from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    NeedsSandbox,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
    wrap_codec_errors,
)
from segserve.images.no_data import parse_no_data, widened_dtype
from segserve.images.tiff.bands import (
    can_read_in_bands,
    count_band_rows,
    is_raw,
    measure_band,
    read_bands,
    read_raw,
)
from segserve.images.tiff.contiguous_planes import count_planes, measure_plane
from segserve.images.tiff.directories import read_directory_offsets, read_page_shape
from segserve.images.tiff.no_liblj92 import turn_off_liblj92
from segserve.images.tiff.old_style_jpeg import OLD_STYLE_JPEG, open_old_style_jpeg
from segserve.images.tiff.photometric import SUPPORTED_PHOTOMETRIC, SampleFormat
from segserve.images.tiff.plane import JPEG, TiffPlane, check_jpeg_headers, join_planes
from segserve.types import Size

turn_off_liblj92()

# Four channels of float32. Together with the pixel limit this bounds the memory for decoded samples.
_MAX_BYTES_PER_PIXEL = 16
# None, LZW, JPEG, deflate (two numbers), PackBits, zstd. For all of these but JPEG the decoder is told how many bytes
# to expect.
_BOUNDED_COMPRESSIONS = (1, 5, JPEG, 8, 32946, 32773, 50000)
# These take as much memory as their own headers say, so only a sandboxed process decodes them.
_APERIO_YCBCR = 33003
_JPEG_2000 = (_APERIO_YCBCR, 33004, 33005, 34712)
_YCBCR_COMPRESSIONS = (JPEG, OLD_STYLE_JPEG, *_JPEG_2000)
_SANDBOXED_COMPRESSIONS = {
    2: "CCITT",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    OLD_STYLE_JPEG: "old-style JPEG",
    **dict.fromkeys(_JPEG_2000, "JPEG 2000"),
    34887: "LERC",
    34925: "LZMA",
    34927: "WebP",
    34933: "PNG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
# GDAL's tag.
_NO_DATA_TAG = 42113
# Strips or tiles are decoded one by one in Python, about 20 us each. Four planes of the longest side in strips of one
# row, or 1000 megapixels in tiles of 64 x 64, are fewer.
MAX_TIFF_SEGMENTS = 1 << 18
# tifffile's readers of vendors' variants are turned off: they open further files and trust what they read.
_PLAIN_TIFF = {f"is_{maker}": False for maker in TIFF.FILE_FLAGS}


def open_tiff(
    stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int, *, any_codec: bool = False
) -> ImageSource:
    """Open a page of a TIFF file and check its header.

    any_codec: whether this process may run codecs that are not bounded by checks of the header.
    page: from 0. The samples of a pixel are channels, planar or not. In ImageJ and OME files each channel may have a
        directory of its own; `page` then counts the positions in z and time.
    max_banded_pixels: limit for an image that can be read in bands; max_pixels: for any other.
    """
    file, locations, channels, stride = _open_directories(stream)
    pages = len(locations) // channels
    check_page(page, pages)
    start = page % stride + page // stride * stride * channels
    numbers = [start + stride * channel for channel in range(channels)]
    planes = [_read_plane(file, stream, *locations[number], any_codec) for number in numbers]
    if planes[0].page.compression == OLD_STYLE_JPEG:
        check_size(planes[0].width, planes[0].height, max_pixels)
        source = open_old_style_jpeg(stream, start, Size(planes[0].height, planes[0].width))
        return replace(source, pages=pages)
    limit = max_banded_pixels if (banded := can_read_in_bands(planes)) else max_pixels
    check_size(planes[0].width, planes[0].height, limit)
    _check_planes(planes, stream, limit)
    size = Size(planes[0].height, planes[0].width)
    bands = partial(read_bands, planes) if banded else None
    return ImageSource(
        size,
        planes[0].orientation,
        _estimate_memory(planes),
        partial(_decode_planes, planes),
        bands,
        planes[0].no_data,
        pages,
    )


def _estimate_memory(planes: list[TiffPlane]) -> DecodingMemory:
    """Return what decoding takes: all samples or those of a band, copies of them, and one strip or tile."""
    first = planes[0]
    is_rgb = first.sample_format.becomes_rgb and len(planes) == 1 and first.samples != 3
    dtype = (
        np.dtype(np.uint8) if is_rgb or first.sample_format.bits < 8 else first.page.dtype.newbyteorder("=")
    )
    channels = 3 if is_rgb else sum(plane.samples for plane in planes)
    has_nan = dtype != np.uint8 and first.sample_format.no_data is not None
    item = dtype.itemsize
    if has_nan:
        dtype = widened_dtype(dtype)
    # Samples as stored, in the machine's byte order, converted, and of all planes together.
    copies = 2 + (len(planes) > 1)
    copies += first.page.parent.byteorder == ">" or any(plane.sample_format.is_converted for plane in planes)
    copies += math.ceil(dtype.itemsize / item) if has_nan else 0
    stored = sum(plane.height * plane.width * plane.samples * plane.item_bytes for plane in planes)
    chunk = max(_chunk_memory(plane) for plane in planes)
    band_chunk = 0 if all(is_raw(plane) for plane in planes) else chunk
    rows = max(count_band_rows(plane) for plane in planes)
    band = sum(measure_band(plane) for plane in planes)
    return DecodingMemory(channels, dtype, (copies - 1) * stored + chunk, rows, copies * band + band_chunk)


def _chunk_memory(plane: TiffPlane) -> int:
    """Return what a strip or tile takes: as stored, decoded, and with its predictor undone."""
    if plane.page.is_contiguous:
        return 0  # read straight into the result
    copies = 4 if plane.page.compression == JPEG else 2  # a JPEG's coefficients are larger
    return copies * plane.chunk_bytes + max((count for _, count in plane.segments), default=0)


def count_pages(stream: BinaryIO) -> int:
    """Return the number of pages that `open_tiff` can open. Raises BadInput, TooLarge."""
    _, locations, channels, _ = _open_directories(stream)
    return len(locations) // channels


def read_first_directory(stream: BinaryIO) -> tuple[TiffPage, int]:
    """Return the first directory, and the number of pages as `count_pages` does. Raises BadInput, TooLarge."""
    file, locations, channels, _ = _open_directories(stream)
    return file.pages.first, len(locations) // channels


def find_different_page(stream: BinaryIO) -> tuple[int, Size, Size] | None:
    """Return the number of the first directory whose image differs from the first one's in size or samples, and both
    sizes; None where all are alike. Raises BadInput, TooLarge."""
    shapes = [read_page_shape(stream, offset) for offset in read_directory_offsets(stream)]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            return number, Size(*shape[:2]), Size(*shapes[0][:2])
    return None


def _open_directories(stream: BinaryIO) -> tuple[TiffFile, list[tuple[int, int]], int, int]:
    """Return (the opened file, its planes, channels, stride); see `_find_channel_layout`.

    A plane is the offset of its directory, and its number among those that lie behind that directory.
    """
    locations = [(offset, 0) for offset in read_directory_offsets(stream)]
    with wrap_codec_errors("TIFF"):
        stream.seek(0)
        file = TiffFile(stream, name="upload.tif", **_PLAIN_TIFF)  # a spooled file has no name of its own
        first = file.pages.first
        if len(locations) == 1:
            planes = count_planes(first, stream.seek(0, 2))
            locations = [(locations[0][0], number) for number in range(planes)]
        channels, stride = _find_channel_layout(
            str(first.description), index(first.samplesperpixel), len(locations)
        )
    return file, locations, channels, stride


def _decode_planes(planes: list[TiffPlane]) -> RawPixels:
    return join_planes(planes, [_decode(plane) for plane in planes])


def find_ome_pixels(description: str) -> str | None:
    """Return the opening tag of OME's `Pixels`, whose attributes say the sizes; None where there is none.

    An attribute has no raw "<": so the search is linear, however often the tag begins.
    """
    match = re.search(r"<(?:\w+:)?Pixels\b[^<>]{0,2000}>", description)
    return match[0] if match else None


def _find_channel_layout(description: str, samples: int, directories: int) -> tuple[int, int]:
    """Return (channels, stride): how many directories hold the channels of a page, and how far apart they are.

    In ImageJ files the channel varies first. OME files state the order.
    """
    sizes = {"C": 1, "Z": 1, "T": 1}
    order = "XYCZT"
    if description.startswith("ImageJ="):
        match = re.search(r"^channels=(\d{1,4})\b", description, re.MULTILINE)
        sizes["C"] = int(match[1]) if match else 1
    elif pixels := find_ome_pixels(description):
        attributes = dict(re.findall(r'(\w+)="(\w+)"', pixels))
        order = attributes.get("DimensionOrder", order)
        sizes = {axis: int(attributes.get(f"Size{axis}", "1")) for axis in sizes}
    channels = sizes["C"]
    stride = math.prod(sizes[axis] for axis in order[: order.index("C")] if axis in sizes)
    # A directory with colour holds all its channels. A file cut from a larger one is read as plain pages.
    if samples > 1 or channels < 1 or stride < 1 or directories % (channels * stride):
        return 1, 1
    return channels, stride


def _read_plane(file: TiffFile, stream: BinaryIO, offset: int, number: int, any_codec: bool) -> TiffPlane:
    """Read a directory. A tag may hold anything, so every value that is used is converted to a number here.

    number: of the plane behind the directory.
    """
    with wrap_codec_errors("TIFF"):
        stream.seek(offset)
        page = TiffPage(file, 0)
        if page.dtype is None or page.dtype.kind not in "buif" or page.jpegheader is not None:
            raise unsupported_error("This type of TIFF sample")
        _check_compression(page.compression, any_codec)
        sample_format = SampleFormat(
            photometric=index(page.photometric),
            bits=index(page.bitspersample),
            has_alpha=any(index(extra) in (1, 2) for extra in page.extrasamples[-1:]),
            colours=page.colormap,
            is_premultiplied=any(index(extra) == 1 for extra in page.extrasamples[-1:]),
            no_data=parse_no_data(page.tags.valueof(_NO_DATA_TAG)),
            is_ycbcr=page.compression == _APERIO_YCBCR
            or (index(page.photometric) == 6 and page.compression in _JPEG_2000),
        )
        has_ycbcr = sample_format.photometric == 6 and page.compression not in _YCBCR_COMPRESSIONS
        if sample_format.photometric not in SUPPORTED_PHOTOMETRIC or has_ycbcr:
            raise unsupported_error(
                f"TIFF in the colour space {_name(PHOTOMETRIC, sample_format.photometric)}"
            )
        if index(page.imagedepth) != 1 or index(page.tiledepth) != 1:
            raise unsupported_error("A TIFF page with depth")
        width, height = index(page.imagewidth), index(page.imagelength)
        samples, planar = index(page.samplesperpixel), index(page.planarconfig) == 2
        chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        segments = zip(page.dataoffsets, page.databytecounts, strict=True)
        shift = number * measure_plane(page) if number else 0
        return TiffPlane(
            page=page,
            width=width,
            height=height,
            samples=samples,
            item_bytes=page.dtype.itemsize,
            sample_format=sample_format,
            orientation=_read_orientation(page),
            chunk=(index(chunk[0]), index(chunk[1])),
            chunk_samples=1 if planar else samples,
            segments=tuple((index(offset) + shift, index(count)) for offset, count in segments),
            number=number,
        )


def _check_compression(compression: int, any_codec: bool) -> None:
    """Raise UnsupportedFormat for a compression that is not read, NeedsSandbox for one that is not read here."""
    if compression in _BOUNDED_COMPRESSIONS:
        return
    if (name := _SANDBOXED_COMPRESSIONS.get(compression)) is None:
        raise unsupported_error(f"TIFF compressed by {_name(COMPRESSION, compression)}")
    if not any_codec:
        raise NeedsSandbox(f"TIFF compressed by {name}")


def _name(numbers: type[IntEnum], number: int) -> str:
    """Return the standard's name of a number in a tag."""
    return numbers(number).name if number in list(numbers) else f"number {number}"


def _read_orientation(page: TiffPage) -> int:
    value = page.tags.valueof(274, default=1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_planes(planes: list[TiffPlane], stream: BinaryIO, max_pixels: int) -> None:
    """Raise BadInput, TooLarge or UnsupportedFormat.

    Checked are whether the planes fit together, lie within the file, and decode to few enough bytes.
    """
    first = planes[0]
    file_bytes = stream.seek(0, 2)
    for plane in planes:
        if min(plane.samples, *plane.chunk) < 1 or len(plane.segments) < plane.chunks:
            raise damaged_file_error("TIFF")
        if any(min(offset, count) < 0 or offset + count > file_bytes for offset, count in plane.segments):
            raise damaged_file_error("TIFF")
        if plane.number and not is_raw(plane):
            raise unsupported_error("A compressed TIFF of several images behind one directory")
        # Strips must not share bytes: otherwise a small file could be decoded over and over.
        if sum(count for _, count in plane.segments) > file_bytes:
            raise damaged_file_error("TIFF")
        if (plane.width, plane.height, plane.page.dtype) != (first.width, first.height, first.page.dtype):
            raise unsupported_error("A TIFF whose channels differ in size or type")
    if sum(plane.chunks for plane in planes) > MAX_TIFF_SEGMENTS:
        raise TooLarge(
            f"The TIFF has more than {MAX_TIFF_SEGMENTS} strips or tiles.",
            remedy="Save it with larger tiles, such as 256 x 256.",
            field="file",
        )
    limit = max_pixels * _MAX_BYTES_PER_PIXEL
    if sum(plane.decoded_bytes for plane in planes) > limit:
        raise TooLarge(
            "The image's samples need too much memory.",
            remedy=f"At most {limit} bytes are decoded: save fewer channels or fewer bits.",
            field="file",
        )


def _decode(plane: TiffPlane) -> NDArray[Any]:
    """Return [H, W, samples] in the machine's byte order."""
    if plane.number:
        with wrap_codec_errors("TIFF"):
            values = read_raw(plane, 0, plane.height)
            return values.astype(values.dtype.newbyteorder("="), copy=False)
    if plane.page.compression == JPEG:
        check_jpeg_headers(plane)
    with wrap_codec_errors("TIFF"):
        # [planar sample, 1, H, W, sample]. One thread: the caller decides how many images are decoded at a time.
        stored: NDArray[Any] = plane.page.asarray(squeeze=False, maxworkers=1)
        samples = np.moveaxis(stored[:, 0, :, :, 0], 0, -1) if len(stored) > 1 else stored[0, 0]
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
