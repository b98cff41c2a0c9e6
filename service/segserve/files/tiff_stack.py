"""Read the pages of a multi-page TIFF as frames."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.orientation import apply_orientation
from segserve.images.read_image import open_image, select_channels
from segserve.images.tiff.reader import count_pages


class TiffStack:
    """`TiffStack` reads the pages of a TIFF. max_pixels: limit for a page."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._file, self._max_pixels = path.open("rb"), max_pixels
        try:
            self.count = count_pages(self._file)
        except BaseException:
            self._file.close()
            raise

    def values(self, index: int) -> NDArray[Any]:
        """Return page `index` from 0, [H, W, 1 to 3], in the file's own dtype. Raises BadInput, TooLarge."""
        pixels = open_image(self._file, index, self._max_pixels, self._max_pixels).read()
        if pixels.values.ndim != 3:
            raise BadInput(f"Page {index} is no picture.", field="file")
        return apply_orientation(select_channels(pixels.values, pixels.has_alpha, None), pixels.orientation)

    def close(self) -> None:
        self._file.close()
