"""The interface of all image decoders (`ImageSource`), and the checks that they share.

Image files may be hostile. So sizes are checked from the header before memory is taken, and any exception of a codec
becomes a refusal that names the field `file`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import DecompressionBombError

from segserve.errors import BadInput, SegserveError, TooLarge, UnsupportedFormat
from segserve.types import Size

# The largest side that JPEG allows. Resizing takes memory in proportion to the longest side, so a strip one pixel
# high must not have as many columns as the pixel limit allows.
MAX_SIDE_PX = 65_535

_SAVE_AGAIN = "Open it in an image editor, save it as PNG or TIFF and send that."


class NeedsSandbox(UnsupportedFormat):
    """The file's codec cannot be bounded by checks of its header: only a sandboxed process may decode it.

    name: of the format or codec. The message is for callers that have no sandbox.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not read here.", remedy=_SAVE_AGAIN, field="file")


@dataclass(frozen=True)
class RawPixels:
    """`RawPixels` are decoded pixels as the file stores them: not yet 8-bit, not yet turned.

    values: [H, W, C] in the file's own dtype, RGB where the file has colour.
    has_alpha: the last channel is opacity.
    orientation: EXIF orientation, 1 to 8; see `orientation.apply_orientation`.
    no_data: of uint8 values, the one that counts as NaN where limits are found. Others have NaN in its place already.
    """

    values: NDArray[Any]
    has_alpha: bool
    orientation: int
    no_data: float | None = None


@dataclass(frozen=True)
class DecodingMemory:
    """`DecodingMemory` says how much memory a file's samples take, as its header states them.

    channels, dtype: of the decoded samples.
    read_bytes: at the peak of `ImageSource.read`, the samples included.
    band_rows: rows of a part that `ImageSource.bands` yields.
    band_bytes: at the peak of `ImageSource.bands`, such a part included.
    """

    channels: int
    dtype: np.dtype[Any]
    read_bytes: int
    band_rows: int
    band_bytes: int


@dataclass(frozen=True)
class ImageSource:
    """`ImageSource` is an opened image file: its header is read and checked, its pixels are not decoded yet.

    size: as stored, before `orientation` is applied.
    memory: what decoding takes.
    read: decodes all pixels at once.
    bands: decodes the same pixels from top to bottom as parts of [h, W, C], from the start at each call; None where
        the file can only be read at once.
    no_data: as of RawPixels.
    pages: of the file, of which this is one.
    """

    size: Size
    orientation: int
    memory: DecodingMemory
    read: Callable[[], RawPixels]
    bands: Callable[[], Iterator[RawPixels]] | None
    no_data: float | None = None
    pages: int = 1

    @property
    def decoded_bytes(self) -> int:
        """Return the size of all decoded samples."""
        return self.size.height * self.size.width * self.memory.channels * self.memory.dtype.itemsize


@contextmanager
def wrap_codec_errors(name: str) -> Iterator[None]:
    """Turn any exception in the block into a refusal of a file of the format `name`.

    Use it around calls of a codec and nothing else. Codecs raise nearly everything when given damaged bytes
    (OSError, SyntaxError, struct.error, KeyError...), so no list of exceptions would be complete.
    """
    try:
        yield
    except SegserveError:
        raise
    except (MemoryError, DecompressionBombError) as error:
        raise TooLarge(
            f"The {name} file needs more memory than there is.",
            remedy="Scale the image down or cut it into parts.",
            field="file",
        ) from error
    except NotImplementedError as error:
        raise UnsupportedFormat(
            f"This kind of {name} file is not read.", remedy=_SAVE_AGAIN, field="file"
        ) from error
    except Exception as error:
        raise damaged_file_error(name) from error


def damaged_file_error(name: str) -> BadInput:
    """Return the refusal of a file that breaks its format, `name`."""
    return BadInput(f"The {name} file is damaged or cut short.", remedy=_SAVE_AGAIN, field="file")


def unsupported_error(feature: str) -> UnsupportedFormat:
    """Return the refusal of an undamaged file that uses a feature of its format that is not supported."""
    return UnsupportedFormat(f"{feature} is not read.", remedy=_SAVE_AGAIN, field="file")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise BadInput for an image without pixels, TooLarge for one that may not be decoded."""
    if width < 1 or height < 1:
        raise BadInput("The image has no pixels.", remedy="Send an image of at least 1 x 1.", field="file")
    if width * height > max_pixels:
        raise TooLarge(
            f"The image has {width} x {height} pixels.",
            remedy=f"At most {max_pixels} pixels are read: scale it down or cut it into parts.",
            field="file",
        )
    if max(width, height) > MAX_SIDE_PX:
        raise TooLarge(
            f"The image has {width} x {height} pixels.",
            remedy=f"At most {MAX_SIDE_PX} pixels a side are read: scale it down or cut it into parts.",
            field="file",
        )


def check_page(page: int, pages: int) -> None:
    """Raise BadInput unless `page`, counted from 0, is one of the file's `pages`."""
    if not 0 <= page < pages:
        raise BadInput(
            f"There is no page {page} in a file of {pages}.",
            remedy=f"Pages are 0 to {pages - 1}.",
            field="page",
        )
