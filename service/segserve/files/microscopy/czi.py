"""Read CZI, the format of ZEISS microscopes, by libCZI (pylibCZIrw): mosaics, z-stacks, time series, scenes."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, MissingDependency
from segserve.files.read_picture import ADDRESS_SPACE_FACTOR
from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
    wrap_codec_errors,
)
from segserve.images.memory_estimate import FIXED_BYTES
from segserve.sandbox.confine import allow_memory
from segserve.types import Size

# dtype and samples of libCZI's pixel types.
_PIXEL_TYPES: dict[str, tuple[str, int]] = {
    "Gray8": ("u1", 1),
    "Gray16": ("u2", 1),
    "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}
MAX_CHANNELS = 64
MAX_IMAGES = 1 << 20
BAND_ROWS = 256
# The mosaic that libCZI composes, a tile of it decoded, and the samples in order of RGB.
COPIES = 3


@dataclass(frozen=True)
class CziImage:
    """`CziImage` is one of a file's images.

    x, y: of its top left corner among all scenes. scene: None where the file has none.
    """

    x: int
    y: int
    size: Size
    scene: int | None
    time: int
    slice: int


class CziFile:
    """`CziFile` lists and reads the images of a CZI: of each scene all points in time, and of these all slices.

    Raises BadInput, UnsupportedFormat, MissingDependency.
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        pyczi = import_pylibczirw()
        try:
            with wrap_codec_errors("CZI"):
                self._document: Any = self._stack.enter_context(pyczi.open_czi(str(path)))
                self.images, self._channels = self._list_images()
                types = {self._document.get_channel_pixel_type(channel) for channel in self._channels}
            if len(types) != 1 or (kind := next(iter(types))) not in _PIXEL_TYPES:
                raise unsupported_error(f"CZI of {' and '.join(sorted(map(str, types)))}")
        except BaseException:
            self.close()
            raise
        dtype, samples = _PIXEL_TYPES[kind]
        self.dtype, self.channels = np.dtype(dtype), samples * len(self._channels)

    def _list_images(self) -> tuple[list[CziImage], list[int]]:
        """Return the images, and the numbers of the channels."""
        box = {
            name: (int(first), int(end)) for name, (first, end) in self._document.total_bounding_box.items()
        }
        for name, (first, end) in box.items():
            if name not in "XYZTC" and end - first > 1:
                raise unsupported_error(f"CZI with several {name}")
        rectangles = self._document.scenes_bounding_rectangle or {
            None: self._document.total_bounding_rectangle
        }
        times, slices, channels = (range(*box.get(name, (0, 1))) for name in "TZC")
        count = len(rectangles) * len(times) * len(slices)
        if not 1 <= count <= MAX_IMAGES or not 1 <= len(channels) <= MAX_CHANNELS:
            raise damaged_file_error("CZI")
        images = [
            CziImage(int(place.x), int(place.y), Size(int(place.h), int(place.w)), scene, time, number)
            for scene, place in sorted(rectangles.items(), key=lambda item: item[0] or 0)
            for time in times
            for number in slices
        ]
        return images, list(channels)

    def read(self, index: int, top: int, height: int) -> NDArray[Any]:
        """Return rows of image `index` from 0, [height, W, channels], colours in order of RGB."""
        image = self.images[index]
        region = (image.x, image.y + top, image.size.width, height)
        parts = []
        with wrap_codec_errors("CZI"):
            for channel in self._channels:
                plane = {"T": image.time, "Z": image.slice, "C": channel}
                samples = self._document.read(roi=region, plane=plane, scene=image.scene)
                parts.append(samples[:, :, ::-1])
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if values.shape != (height, image.size.width, self.channels) or values.dtype != self.dtype:
            raise damaged_file_error("CZI")
        return np.ascontiguousarray(values)

    def close(self) -> None:
        self._stack.close()


def open_czi_picture(path: Path, page: int, max_pixels: int, max_banded_pixels: int) -> ImageSource:
    """Open an image of a CZI. Its channels are the picture's.

    page: counts scenes, points in time and slices, the last of them fastest.
    """
    file = CziFile(path)
    check_page(page, len(file.images))
    size = file.images[page].size
    check_size(size.width, size.height, max_banded_pixels)
    pixel_bytes = file.channels * file.dtype.itemsize

    def bands() -> Iterator[RawPixels]:
        for top in range(0, size.height, BAND_ROWS):
            yield RawPixels(file.read(page, top, min(BAND_ROWS, size.height - top)), False, 1)

    def read() -> RawPixels:
        check_size(size.width, size.height, max_pixels)
        return RawPixels(file.read(page, 0, size.height), False, 1)

    memory = DecodingMemory(
        file.channels,
        file.dtype,
        COPIES * size.height * size.width * pixel_bytes,
        BAND_ROWS,
        COPIES * min(BAND_ROWS, size.height) * size.width * pixel_bytes,
    )
    return ImageSource(size, 1, memory, read, bands)


class CziStack:
    """`CziStack` reads the images of a CZI as frames of one size: points in time, and of these all slices.

    max_pixels: limit for an image.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._file = CziFile(path)
        self.count, first = len(self._file.images), self._file.images[0].size
        try:
            check_size(first.width, first.height, max_pixels)
            if any(image.size != first for image in self._file.images):
                raise BadInput(
                    "The scenes of the CZI differ in size.",
                    field="file",
                    remedy="Send one scene, or its images to POST /v1/images with ?page=.",
                )
        except BaseException:
            self.close()
            raise

    def values(self, index: int) -> NDArray[Any]:
        """Return image `index` from 0, [H, W, 1 to 3], in the file's own dtype. Raises BadInput."""
        size, file = self._file.images[index].size, self._file
        used = FIXED_BYTES + COPIES * size.height * size.width * file.channels * file.dtype.itemsize
        allow_memory(ADDRESS_SPACE_FACTOR * used, used=used)
        return file.read(index, 0, size.height)[:, :, :3]

    def close(self) -> None:
        self._file.close()


def import_pylibczirw() -> Any:
    """Return `pylibCZIrw.czi`. Raises MissingDependency."""
    try:
        from pylibCZIrw import czi
    except ImportError:
        raise MissingDependency("pylibCZIrw", "microscopy", "Reading CZI") from None
    return czi
