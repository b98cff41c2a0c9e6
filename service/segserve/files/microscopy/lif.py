"""Read LIF, the format of Leica microscopes: an XML header, and behind it the samples of each image as they are.

A file is a sequence of blocks: 0x70, the block's length, then fields that begin with 0x2A. The first block holds the
header in UTF-16, each other one the samples of one image, found by its name (MemoryBlockID). The header gives for each
dimension and channel the bytes from one element to the next, so samples may be in any order.
"""

import math
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.files.microscopy.microscope_file import (
    ImageSeries,
    check_series,
    ends_early_error,
    name_uniquely,
)
from segserve.files.microscopy.xml_header import parse_xml
from segserve.images.image_source import damaged_file_error, wrap_codec_errors
from segserve.sandbox.confine import allow_memory
from segserve.types import LeftOutFile, Size

BLOCK, FIELD = 0x70, 0x2A
MAX_HEADER_CHARS = 64 << 20
# Of the parsed header, for each character.
HEADER_BYTES_PER_CHAR = 16
MAX_BLOCK_NAME_CHARS = 1 << 12
# DimID.
X, Y, Z, T = 1, 2, 3, 4
# Images of one recording that differ in other dimensions, such as wavelength or tile, are series of their own.
MAX_OTHER = 4096
# ChannelTag: which colour of an RGB image a channel is.
RED, GREEN, BLUE = 1, 2, 3


@dataclass(frozen=True)
class LifImage:
    """`LifImage` says where the samples of one series are.

    start: offset in the file of the first sample.
    steps: bytes from one column, row, point in time and slice to the next.
    channels: offset of each channel.
    """

    start: int
    steps: tuple[int, int, int, int]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Dimension:
    """`Dimension` is an axis. identity: DimID. step: bytes from one element to the next."""

    identity: int
    count: int
    step: int


class LifFile:
    """`LifFile` lists and reads the images of a LIF. It closes the stream. Raises BadInput, UnsupportedFormat."""

    format_name, is_packed = "LIF", False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.series: list[ImageSeries] = []
        self.left_out: list[LeftOutFile] = []
        self._images: list[LifImage] = []
        try:
            with wrap_codec_errors("LIF"):
                root, is_long = read_header(stream)
                blocks = dict(read_blocks(stream, is_long))
                for name, element in list_elements(root, ""):
                    self._add(name, element, blocks)
            names = name_uniquely([series.name for series in self.series])
            self.series = [
                replace(series, name=name) for series, name in zip(self.series, names, strict=True)
            ]
            check_series(self)
        except BaseException:
            self.close()
            raise

    def _add(self, name: str, element: ET.Element, blocks: dict[str, tuple[int, int]]) -> None:
        """Add the images of an element of the header. Raises BadInput, and errors of a damaged header."""
        memory = element.find("Memory")
        if memory is None or (block := blocks.get(memory.get("MemoryBlockID", ""))) is None or not block[1]:
            self.left_out.append(LeftOutFile(name, "Its samples are not in the file."))
            return
        start, length = block
        dimensions = [
            Dimension(
                int(one.attrib["DimID"]), int(one.attrib["NumberOfElements"]), int(one.attrib["BytesInc"])
            )
            for one in element.iterfind("Data/Image/ImageDescription/Dimensions/DimensionDescription")
        ]
        channels = read_channels(element)
        types = {dtype for _, _, dtype in channels}
        if len(types) != 1:
            self.left_out.append(LeftOutFile(name, "Its channels differ in the type of their samples."))
            return
        [dtype] = types
        if any(one.count < 1 or one.step < 0 for one in dimensions) or not dimensions:
            raise damaged_file_error("LIF")
        last = sum((one.count - 1) * one.step for one in dimensions) + max(at for _, at, _ in channels)
        if last + dtype.itemsize > length or min(at for _, at, _ in channels) < 0:
            raise damaged_file_error("LIF")
        columns, rows, times, slices, others = sort_dimensions(dimensions)
        if (count := math.prod(one.count for one in others)) > MAX_OTHER:
            raise damaged_file_error("LIF")
        for number in range(count):
            offset, left = start, number
            for other in others:
                left, index = divmod(left, other.count)
                offset += index * other.step
            self.series.append(
                ImageSeries(
                    name if count == 1 else f"{name} {number}",
                    Size(rows.count, columns.count),
                    times.count,
                    slices.count,
                    len(channels),
                    dtype,
                )
            )
            steps = columns.step, rows.step, times.step, slices.step
            self._images.append(LifImage(offset, steps, tuple(at for _, at, _ in channels)))

    def read(self, series: int, time: int, slice: int, top: int, height: int) -> NDArray[Any]:
        """As `MicroscopeFile.read`."""
        image, one = self._images[series], self.series[series]
        column, row, time_step, slice_step = image.steps
        first = image.start + time * time_step + slice * slice_step + top * row
        width, dtype = one.size.width, one.dtype
        values = np.empty((height, width, one.channels), dtype)
        is_dense = column == dtype.itemsize and row == width * column
        length = height * row if is_dense else (width - 1) * column + dtype.itemsize
        for channel, offset in enumerate(image.channels):
            for number in range(1 if is_dense else height):
                self._stream.seek(first + offset + number * row)
                data = self._stream.read(length)
                if len(data) != length:
                    raise damaged_file_error("LIF")
                if is_dense:
                    values[:, :, channel] = np.frombuffer(data, dtype).reshape(height, width)
                else:
                    values[number, :, channel] = np.ndarray((width,), dtype, data, strides=(column,))
        return values

    def close(self) -> None:
        self._stream.close()


def read_header(stream: BinaryIO) -> tuple[ET.Element, bool]:
    """Return the header, and whether blocks have sizes of 64 bits (version 2). Raises BadInput."""
    stream.seek(0)
    head = stream.read(13)
    block, _, field, count = struct.unpack("<IIBI", head)
    if block != BLOCK or field != FIELD or count > MAX_HEADER_CHARS:
        raise damaged_file_error("LIF")
    data = stream.read(2 * count)
    if len(data) != 2 * count:
        raise ends_early_error("LIF", 13 + len(data), 13 + 2 * count)
    allow_memory(HEADER_BYTES_PER_CHAR * count)
    root = parse_xml(data.decode("utf-16-le"))
    return root, int(root.get("Version", "2")) >= 2


def read_blocks(stream: BinaryIO, is_long: bool) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (name, (offset, length)) of the samples behind the header. Raises BadInput where the file ends early."""
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    (_, _, _, count) = struct.unpack("<IIBI", stream.read(13))
    at = 13 + 2 * count
    form = "<IIBQBI" if is_long else "<IIBIBI"
    size = struct.calcsize(form)
    while at < file_bytes:
        stream.seek(at)
        head = stream.read(size)
        if len(head) != size:
            raise ends_early_error("LIF", file_bytes, at + size)
        block, _, first, length, second, chars = struct.unpack(form, head)
        if block != BLOCK or first != FIELD or second != FIELD or chars > MAX_BLOCK_NAME_CHARS:
            raise damaged_file_error("LIF")
        name = stream.read(2 * chars).decode("utf-16-le")
        at += size + 2 * chars
        if at + length > file_bytes:
            raise ends_early_error("LIF", file_bytes, at + length)
        yield name, (at, length)
        at += length


def list_elements(element: ET.Element, folder: str) -> Iterator[tuple[str, ET.Element]]:
    """Yield (name, element) of the images, in the file's order; names with those of the folders that they are in."""
    for child in element:
        if child.tag == "Element":
            name = f"{folder}{child.get('Name', '')}"
            if child.find("Data/Image") is not None:
                yield name, child
            yield from list_elements(child, f"{name}/")
        elif child.tag == "Children":
            yield from list_elements(child, folder)


def read_channels(element: ET.Element) -> Sequence[tuple[int, int, np.dtype[Any]]]:
    """Return (tag, offset, dtype) of the channels: in order of RGB if they are its colours. Raises BadInput."""
    channels = []
    for one in element.iterfind("Data/Image/ImageDescription/Channels/ChannelDescription"):
        bits, is_float = int(one.attrib["Resolution"]), one.get("DataType", "0") == "1"
        if not (9 if is_float else 1) <= bits <= 64:
            raise damaged_file_error("LIF")
        sample_bytes = next(size for size in (1, 2, 4, 8) if bits <= 8 * size)
        dtype = np.dtype(f"<{'f' if is_float else 'u'}{sample_bytes}")
        channels.append((int(one.get("ChannelTag", "0")), int(one.attrib["BytesInc"]), dtype))
    if not channels:
        raise damaged_file_error("LIF")
    if sorted(tag for tag, _, _ in channels) == [RED, GREEN, BLUE]:
        channels.sort(key=lambda channel: channel[0])
    return channels


def sort_dimensions(
    dimensions: Sequence[Dimension],
) -> tuple[Dimension, Dimension, Dimension, Dimension, list[Dimension]]:
    """Return columns, rows, points in time, slices, and the other dimensions.

    Rows and slices are Y and Z in the order of the file, which is that of the scan: one across the specimen has X and Z
    in a plane. A scan along a line has points in time as rows.
    """
    left = list(dimensions)

    def take(identities: set[int]) -> Dimension:
        for one in left:
            if one.identity in identities:
                left.remove(one)
                return one
        return Dimension(0, 1, 0)

    columns, rows, slices = take({X}), take({Y, Z}), take({Y, Z})
    if not rows.identity:
        rows = take({T})
    return columns, rows, take({T}), slices, left
