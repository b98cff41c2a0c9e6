"""Read the pages of a multi-page TIFF as frames."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.read_picture import read_picture
from segserve.images.tiff.reader import count_pages, find_different_page
from segserve.images.tiff.spacing import read_stack_spacing


class TiffStack:
    """`TiffStack` reads the pages of a TIFF. max_pixels: limit for a page."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._file, self._max_pixels = path.open("rb"), max_pixels
        try:
            self.count = count_pages(self._file)
            self._check_sizes()
        except BaseException:
            self._file.close()
            raise

    def _check_sizes(self) -> None:
        """Raise BadInput where pages differ: they are the levels of a pyramid, or a picture and its thumbnail."""
        if self.count > 1 and (different := find_different_page(self._file)) is not None:
            number, size, first = different
            raise BadInput(
                f"Page {number} of the TIFF is {size.width} x {size.height}, the first one {first.width} x"
                f" {first.height}, or they differ in their channels.",
                field="file",
                remedy="Send pages of one kind. A picture with a thumbnail or with levels goes to POST /v1/images.",
            )

    def values(self, index: int) -> NDArray[Any]:
        """Return page `index` from 0, [H, W, 1 to 3], in the file's own dtype. Raises BadInput, TooLarge."""
        values = read_picture(self._file, index, self._max_pixels)
        if values.ndim != 3:
            raise BadInput(f"Page {index} is no picture.", field="file")
        return values

    def read_spacing(self) -> tuple[float, float, float] | None:
        """Return millimetres from slice to slice, row to row and column to column; None where the file does not say."""
        return read_stack_spacing(self._file)

    def close(self) -> None:
        self._file.close()
