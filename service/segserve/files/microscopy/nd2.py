"""Read ND2, the format of Nikon's NIS-Elements from version 2 on: chunks with names, and a map of them at the end.

A chunk is 0x0ABECEDA, the length of its name, the length of its data, the name and the data. The samples of image 7
are the chunk "ImageDataSeq|7!", behind 8 bytes of its time. The loops of the experiment say which image is of which
position, point in time and slice. Files of before 2010, which are JPEG 2000, are not read as ND2.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.microscopy.microscope_file import (
    MAX_IMAGES,
    ImageSeries,
    check_series,
    ends_early_error,
)
from segserve.files.microscopy.nd2_variant import Variant, parse_variant
from segserve.images.image_source import damaged_file_error, unsupported_error, wrap_codec_errors
from segserve.sandbox.confine import allow_memory
from segserve.types import LeftOutFile, Size

CHUNK_MAGIC = b"\xda\xce\xbe\x0a"
CHUNK_HEADER = struct.Struct("<4sIQ")
# Ends the file, with the offset of the map behind it.
MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
IMAGE_PREFIX = b"ImageDataSeq|"
MAX_METADATA_BYTES = 256 << 20
# Of a parsed chunk, for each byte.
PARSED_BYTES_PER_BYTE = 8
TIME_BYTES = 8
# eCompression.
LOSSLESS, LOSSY = 0, 1
# eType of a loop.
TIME_LOOP, POSITION_LOOP, SLICE_LOOP, UNEVEN_TIME_LOOP = 1, 2, 4, 8
MAX_LOOPS = 16


class Nd2File:
    """`Nd2File` lists and reads the images of an ND2. Each position is a series. It closes the stream.

    Raises BadInput, UnsupportedFormat.
    """

    format_name = "ND2"
    left_out: Sequence[LeftOutFile] = ()

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        try:
            self._file_bytes = stream.seek(0, 2)
            with wrap_codec_errors("ND2"):
                self._chunks = self._read_map()
                attributes = self._read_variant(b"ImageAttributes", "SLxImageAttributes")
                self._read_attributes(attributes)
                self._offsets = self._find_images()
                experiment = self._read_variant(b"ImageMetadata", "SLxExperiment", is_needed=False)
                self.series = self._list_series(read_loops(experiment))
            check_series(self)
        except BaseException:
            self.close()
            raise

    def _read_map(self) -> dict[bytes, int]:
        """Return the offsets of the chunks by name. Raises BadInput."""
        self._stream.seek(max(0, self._file_bytes - len(MAP_SIGNATURE) - 8))
        end = self._stream.read()
        if not end.startswith(MAP_SIGNATURE):
            raise BadInput(
                "The ND2 has no map of its chunks at its end: it is cut short, or its recording was broken off.",
                field="file",
                remedy="Copy it again from its source, or open it in NIS-Elements and save it again.",
            )
        data = self._read_chunk(struct.unpack_from("<Q", end, len(MAP_SIGNATURE))[0])
        allow_memory(PARSED_BYTES_PER_BYTE * len(data))
        chunks, at = dict[bytes, int](), 0
        while (name_end := data.find(b"!", at) + 1) > 0:
            name = data[at:name_end]
            if name == MAP_SIGNATURE:
                break
            (chunks[name],) = struct.unpack_from("<Q", data, name_end)
            at = name_end + 16
        return chunks

    def _find_chunk(self, offset: int) -> tuple[int, int]:
        """Return the offset and length of a chunk's data. Raises BadInput where the file ends before it."""
        self._stream.seek(offset)
        head = self._stream.read(CHUNK_HEADER.size)
        if len(head) != CHUNK_HEADER.size:
            raise ends_early_error("ND2", self._file_bytes, offset + CHUNK_HEADER.size)
        magic, name_bytes, length = CHUNK_HEADER.unpack(head)
        if magic != CHUNK_MAGIC:
            raise damaged_file_error("ND2")
        start = offset + CHUNK_HEADER.size + name_bytes
        if start + length > self._file_bytes:
            raise ends_early_error("ND2", self._file_bytes, start + length)
        return start, length

    def _read_chunk(self, offset: int) -> bytes:
        start, length = self._find_chunk(offset)
        if length > MAX_METADATA_BYTES:
            raise damaged_file_error("ND2")
        allow_memory(PARSED_BYTES_PER_BYTE * length)
        self._stream.seek(start)
        return self._stream.read(length)

    def _read_variant(self, name: bytes, root: str, *, is_needed: bool = True) -> Variant:
        """Return the values of a chunk; from version 3 on its name ends with LV. Raises BadInput."""
        for chunk in (name + b"LV!", name + b"!"):
            if chunk in self._chunks:
                values = parse_variant(self._read_chunk(self._chunks[chunk]))
                inner: Variant = values.get(root, values)
                return inner
        if is_needed:
            raise damaged_file_error("ND2")
        return {}

    def _read_attributes(self, attributes: Variant) -> None:
        """Raises BadInput, UnsupportedFormat, and KeyError of a damaged file."""
        self._size = Size(int(attributes["uiHeight"]), int(attributes["uiWidth"]))
        self._channels, bits = int(attributes["uiComp"]), int(attributes["uiBpcInMemory"])
        if bits not in (8, 16, 32):
            raise unsupported_error(f"ND2 of {bits} bits")
        self._dtype = np.dtype({8: "u1", 16: "<u2", 32: "<f4"}[bits])
        self._row_bytes = int(attributes["uiWidthBytes"])
        compression = int(attributes.get("eCompression", 2))
        if compression == LOSSY:
            raise unsupported_error("ND2 with lossy compression")
        self.is_packed = compression == LOSSLESS
        if (
            min(self._size.height, self._size.width, self._channels) < 1
            or self._row_bytes < self._size.width * self._channels * self._dtype.itemsize
        ):
            raise damaged_file_error("ND2")

    @property
    def _image_bytes(self) -> int:
        return self._size.height * self._row_bytes

    def _find_images(self) -> list[tuple[int, int]]:
        """Return (offset, length) of the images' data in their order. Raises BadInput where one is missing or cut."""
        numbers = {
            int(name[len(IMAGE_PREFIX) : -1]): offset
            for name, offset in self._chunks.items()
            if name.startswith(IMAGE_PREFIX)
        }
        if not 0 < len(numbers) <= MAX_IMAGES or max(numbers) >= MAX_IMAGES:
            raise damaged_file_error("ND2")
        found = []
        for number in range(max(numbers) + 1):
            if number not in numbers:
                raise BadInput(
                    f"Image {number} of {max(numbers) + 1} is missing in the ND2.",
                    field="file",
                    remedy="Open it in NIS-Elements and save it again, without the missing images.",
                )
            start, length = self._find_chunk(numbers[number])
            if length < TIME_BYTES or (not self.is_packed and length < TIME_BYTES + self._image_bytes):
                raise damaged_file_error("ND2")
            found.append((start + TIME_BYTES, length - TIME_BYTES))
        return found

    def _list_series(self, loops: Sequence[tuple[int, int]]) -> list[ImageSeries]:
        """Return a series for each position. loops: (eType, count) of each, from the outermost."""
        counts = [count for _, count in loops]
        notes: tuple[str, ...] = ()
        images = np.arange(len(self._offsets))
        if math.prod(counts) == len(images):
            axes = [
                [number for number, (kind, _) in enumerate(loops) if kind in kinds]
                for kinds in ((POSITION_LOOP,), (TIME_LOOP, UNEVEN_TIME_LOOP), (SLICE_LOOP,))
            ]
            positions, times, slices = (math.prod(counts[number] for number in group) for group in axes)
            ordered = images.reshape(counts).transpose([number for group in axes for number in group])
            self._numbers = ordered.reshape(positions, times, slices)
        else:  # a recording that was broken off
            self._numbers = images.reshape(1, -1, 1)
            notes = (
                f"Its loops make {math.prod(counts)} images, and {len(images)} are there, in the order of recording.",
            )
        positions, times, slices = self._numbers.shape
        return [
            ImageSeries(
                "image" if positions == 1 else f"position {number}",
                self._size,
                times,
                slices,
                self._channels,
                self._dtype,
                2 * self._image_bytes if self.is_packed else 0,
                notes,
            )
            for number in range(positions)
        ]

    def read(self, series: int, time: int, slice: int, top: int, height: int) -> NDArray[Any]:
        """As `MicroscopeFile.read`."""
        offset, length = self._offsets[int(self._numbers[series, time, slice])]
        sample_bytes, needed = self._dtype.itemsize, height * self._row_bytes
        if self.is_packed:
            self._stream.seek(offset)
            with wrap_codec_errors("ND2"):
                data = zlib.decompressobj().decompress(self._stream.read(length), self._image_bytes)
            data = data[top * self._row_bytes :][:needed]
        else:
            self._stream.seek(offset + top * self._row_bytes)
            data = self._stream.read(needed)
        if len(data) < needed:
            raise damaged_file_error("ND2")
        shape = (height, self._size.width, self._channels)
        strides = (self._row_bytes, self._channels * sample_bytes, sample_bytes)
        return np.ndarray(shape, self._dtype, data, strides=strides)

    def close(self) -> None:
        self._stream.close()


def read_loops(experiment: Variant) -> list[tuple[int, int]]:
    """Return (eType, count) of the loops of an experiment, from the outermost. Other kinds of loops are left out."""
    loops: list[tuple[int, int]] = []
    level: Any = experiment
    while isinstance(level, dict) and level and len(loops) < MAX_LOOPS:
        kind, parameters = int(level.get("eType", 0)), level.get("uLoopPars", {})
        if isinstance(parameters, dict) and list(parameters) in (["0"], ["no_name"]):
            parameters = next(iter(parameters.values()))
        count = count_loop(kind, parameters, level.get("pItemValid"))
        if count is not None:
            loops.append((kind, count))
        inner = level.get("ppNextLevelEx")
        level = next(iter(inner.values()), None) if isinstance(inner, dict) else None
        if isinstance(level, dict):
            level = level.get("SLxExperiment", level)
    return loops


def count_loop(kind: int, parameters: Any, valid: Any) -> int | None:
    """Return how often a loop runs; None for one that makes no images of its own. valid: flags of positions."""
    if kind not in (TIME_LOOP, POSITION_LOOP, SLICE_LOOP, UNEVEN_TIME_LOOP) or not isinstance(
        parameters, dict
    ):
        return None
    count = int(parameters.get("uiCount", 0))
    if kind == UNEVEN_TIME_LOOP and isinstance(periods := parameters.get("pPeriod"), dict):
        counts = [int(period.get("uiCount", 0)) for period in periods.values() if isinstance(period, dict)]
        flags = list_flags(parameters.get("pPeriodValid"))
        count = sum(
            each for each, is_valid in zip(counts, flags + [True] * len(counts), strict=False) if is_valid
        )
    if kind == POSITION_LOOP:
        count = count or len(parameters.get("Points", ()))
        flags = list_flags(valid)
        count = sum(flags[:count]) if len(flags) >= count else count
    return count if count > 0 else None


def list_flags(values: Any) -> list[bool]:
    """Return flags, which are bytes or a list."""
    if isinstance(values, dict):
        return [bool(value) for value in values.values()]
    return [bool(value) for value in values] if isinstance(values, bytes) else []
