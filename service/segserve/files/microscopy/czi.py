"""Read CZI, the format of ZEISS microscopes, by libCZI (pylibCZIrw): mosaics, z-stacks, time series, scenes."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import MissingDependency
from segserve.files.microscopy.microscope_file import ImageSeries, check_series
from segserve.images.image_source import unsupported_error, wrap_codec_errors
from segserve.types import LeftOutFile, Size

# dtype and samples of libCZI's pixel types.
_PIXEL_TYPES: dict[str, tuple[str, int]] = {
    "Gray8": ("u1", 1),
    "Gray16": ("u2", 1),
    "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}


class CziFile:
    """`CziFile` lists and reads the images of a CZI. Each scene is a series.

    Raises BadInput, UnsupportedFormat, MissingDependency.
    """

    format_name = "CZI"
    left_out: Sequence[LeftOutFile] = ()
    is_packed = True

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        pyczi = import_pylibczirw()
        try:
            with wrap_codec_errors("CZI"):
                self._document: Any = self._stack.enter_context(pyczi.open_czi(str(path)))
                self.series = self._list_series()
            check_series(self)
        except BaseException:
            self.close()
            raise

    def _list_series(self) -> list[ImageSeries]:
        box = {
            name: (int(first), int(end)) for name, (first, end) in self._document.total_bounding_box.items()
        }
        for name, (first, end) in box.items():
            if name not in "XYZTC" and end - first > 1:
                raise unsupported_error(f"CZI with several {name}")
        self._times, self._slices, self._channels = (range(*box.get(name, (0, 1))) for name in "TZC")
        types = {self._document.get_channel_pixel_type(channel) for channel in self._channels}
        if len(types) != 1 or (kind := next(iter(types))) not in _PIXEL_TYPES:
            raise unsupported_error(f"CZI of {' and '.join(sorted(map(str, types)))}")
        dtype, samples = _PIXEL_TYPES[kind]
        rectangles = self._document.scenes_bounding_rectangle or {
            None: self._document.total_bounding_rectangle
        }
        self._places = sorted(rectangles.items(), key=lambda item: item[0] or 0)
        return [
            ImageSeries(
                "image" if scene is None else f"scene {scene}",
                Size(int(place.h), int(place.w)),
                len(self._times),
                len(self._slices),
                samples * len(self._channels),
                np.dtype(dtype),
            )
            for scene, place in self._places
        ]

    def read(self, series: int, time: int, slice: int, top: int, height: int) -> NDArray[Any]:
        """As `MicroscopeFile.read`."""
        scene, place = self._places[series]
        region = (int(place.x), int(place.y) + top, int(place.w), height)
        parts = []
        with wrap_codec_errors("CZI"):
            for channel in self._channels:
                plane = {"T": self._times[time], "Z": self._slices[slice], "C": channel}
                samples = self._document.read(roi=region, plane=plane, scene=scene)
                parts.append(samples[:, :, ::-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def close(self) -> None:
        self._stack.close()


def import_pylibczirw() -> Any:
    """Return `pylibCZIrw.czi`. Raises MissingDependency."""
    try:
        from pylibCZIrw import czi
    except ImportError:
        raise MissingDependency("pylibCZIrw", "microscopy", "Reading CZI") from None
    return czi
