"""Read the pages of a multi-page TIFF as frames."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.read_picture import read_picture
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
        values = read_picture(self._file, index, self._max_pixels)
        if values.ndim != 3:
            raise BadInput(f"Page {index} is no picture.", field="file")
        return values

    def close(self) -> None:
        self._file.close()
