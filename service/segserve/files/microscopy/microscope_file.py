"""What files of microscopes have in common: series of images, read as pictures and as the frames of a stack."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.file_contents import choose_series
from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
)
from segserve.images.memory_estimate import ADDRESS_SPACE_FACTOR, FIXED_BYTES
from segserve.sandbox.confine import allow_memory
from segserve.types import FileContent, FileOptions, LeftOutFile, Size

BAND_ROWS = 256
MAX_SERIES = 10_000
MAX_CHANNELS = 64
# Of all series together.
MAX_IMAGES = 1 << 20
# Channels that a frame of a stack has at most.
FRAME_CHANNELS = 3
# An image as it is in the file, and in order of its axes.
COPIES = 3


@dataclass(frozen=True)
class ImageSeries:
    """`ImageSeries` are images of one size: those of a scene, a position or a recording.

    name: no other series of the file has it.
    times, slices: there is an image of each slice at each point in time.
    part_bytes: memory that reading takes beside the image, such as for a compressed part of it.
    notes: what is unusual; a sentence each.
    """

    name: str
    size: Size
    times: int
    slices: int
    channels: int
    dtype: np.dtype[Any]
    part_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return self.times * self.slices

    @property
    def image_bytes(self) -> int:
        return self.size.height * self.size.width * self.channels * self.dtype.itemsize


class MicroscopeFile(Protocol):
    """`MicroscopeFile` reads images of a file. Use it in one thread at a time.

    series: at least one.
    left_out: what cannot be read of the file.
    is_packed: only decoding an image shows whether it is whole. Otherwise opening the file has checked it.
    """

    @property
    def format_name(self) -> str: ...

    @property
    def series(self) -> Sequence[ImageSeries]: ...

    @property
    def left_out(self) -> Sequence[LeftOutFile]: ...

    @property
    def is_packed(self) -> bool: ...

    def read(self, series: int, time: int, slice: int, top: int, height: int) -> NDArray[Any]:
        """Return rows of an image, [height, W, channels], colours in order of RGB. Raises BadInput."""
        ...

    def close(self) -> None: ...


def check_series(file: MicroscopeFile) -> None:
    """Check the numbers that a file's header states. Raises BadInput, UnsupportedFormat."""
    series = file.series
    if not series:
        reason = f" {file.left_out[0].name!r}: {file.left_out[0].reason}" if file.left_out else ""
        raise UnsupportedFormat(
            f"There is no image in the {file.format_name} that is read.{reason}",
            field="file",
            remedy="Export its images as TIFF and send these.",
        )
    if len(series) > MAX_SERIES or not 0 < sum(one.count for one in series) <= MAX_IMAGES:
        raise damaged_file_error(file.format_name)
    for one in series:
        if min(one.times, one.slices, one.channels, one.size.height, one.size.width) < 1:
            raise damaged_file_error(file.format_name)
    if any(one.channels > MAX_CHANNELS for one in series):
        raise unsupported_error(f"{file.format_name} of more than {MAX_CHANNELS} channels")


def read_image(file: MicroscopeFile, series: int, index: int, top: int, height: int) -> NDArray[Any]:
    """Return rows of image `index` from 0 of a series, checked. Raises BadInput."""
    one = file.series[series]
    time, slice_ = divmod(index, one.slices)
    values = file.read(series, time, slice_, top, height)
    if values.shape != (height, one.size.width, one.channels) or values.dtype != one.dtype:
        raise damaged_file_error(file.format_name)
    return np.ascontiguousarray(values)


def open_series_picture(
    file: MicroscopeFile, page: int, max_pixels: int, max_banded_pixels: int
) -> ImageSource:
    """Open an image. Its channels are the picture's.

    page: counts series, points in time and slices, the last of them fastest.
    """
    check_page(page, count_images(file))
    number, index = 0, page
    while index >= file.series[number].count:
        index -= file.series[number].count
        number += 1
    series = file.series[number]
    size = series.size
    check_size(size.width, size.height, max_banded_pixels)
    row_bytes = series.image_bytes // size.height

    def bands() -> Iterator[RawPixels]:
        for top in range(0, size.height, BAND_ROWS):
            height = min(BAND_ROWS, size.height - top)
            yield RawPixels(read_image(file, number, index, top, height), False, 1)

    def read() -> RawPixels:
        check_size(size.width, size.height, max_pixels)
        return RawPixels(read_image(file, number, index, 0, size.height), False, 1)

    memory = DecodingMemory(
        series.channels,
        series.dtype,
        COPIES * series.image_bytes + series.part_bytes,
        BAND_ROWS,
        COPIES * min(BAND_ROWS, size.height) * row_bytes + series.part_bytes,
    )
    return ImageSource(size, 1, memory, read, bands, pages=count_images(file))


def count_images(file: MicroscopeFile) -> int:
    """Return the number of images of all series."""
    return sum(series.count for series in file.series)


class MicroscopeStack:
    """`MicroscopeStack` reads the images of one series as frames: points in time, and of these all slices.

    options: choose the series, else it is the largest.
    max_pixels: limit for an image.
    It closes the file. Raises BadInput, TooLarge.
    """

    def __init__(self, file: MicroscopeFile, options: FileOptions, max_pixels: int) -> None:
        self._file = file
        try:
            sizes = [series.count * series.image_bytes for series in file.series]
            names = [series.name for series in file.series]
            self._taken = choose_series(names, options.series, sizes.index(max(sizes)))
            series = file.series[self._taken]
            if options.time not in (None, 0):
                raise BadInput(
                    f"There is no point in time {options.time}: all of them are frames of the stack.",
                    field="time",
                    remedy="Leave 'time' out.",
                )
            check_size(series.size.width, series.size.height, max_pixels)
            self.count = series.count
        except BaseException:
            self.close()
            raise

    @property
    def contents(self) -> list[FileContent]:
        return [
            FileContent(
                series.name,
                "",
                1,
                series.count,
                series.size,
                0 if number == self._taken else None,
                (*describe_axes(series), *series.notes),
            )
            for number, series in enumerate(self._file.series)
        ]

    @property
    def left_out(self) -> list[LeftOutFile]:
        return list(self._file.left_out)

    def check_complete(self) -> None:
        """Decode every image that is packed. Raises BadInput."""
        for index in range(self.count if self._file.is_packed else 0):
            self.values(index)

    def values(self, index: int) -> NDArray[Any]:
        """Return image `index` from 0, [H, W, 1 to 3], in the file's own dtype. Raises BadInput."""
        series = self._file.series[self._taken]
        used = FIXED_BYTES + COPIES * series.image_bytes + series.part_bytes
        allow_memory(ADDRESS_SPACE_FACTOR * used, used=used)
        if not 0 <= index < self.count:
            raise damaged_file_error(self._file.format_name)
        return read_image(self._file, self._taken, index, 0, series.size.height)[:, :, :FRAME_CHANNELS]

    def close(self) -> None:
        self._file.close()


def describe_axes(series: ImageSeries) -> list[str]:
    """Return sentences about the order of frames, and about the channels that frames do not have."""
    notes = []
    if series.times > 1 and series.slices > 1:
        notes.append(
            f"Frames are {series.times} points in time, and of each {series.slices} slices one after the other."
        )
    if series.channels > FRAME_CHANNELS:
        notes.append(
            f"Frames have the first {FRAME_CHANNELS} of {series.channels} channels."
            " POST /v1/images takes others by ?channels=."
        )
    return notes


def name_uniquely(names: Sequence[str]) -> list[str]:
    """Return the names, each with a number behind it where another one before it is the same."""
    seen, unique = dict[str, int](), []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def ends_early_error(name: str, present: int, needed: int) -> BadInput:
    """Return the refusal of a file that is cut short. name: of the format. present, needed: bytes."""
    return BadInput(
        f"The {name} ends early: {present} of {needed} bytes are there.",
        field="file",
        remedy="Copy it again from its source.",
    )
