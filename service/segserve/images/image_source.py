"""What every decoder here returns and the checks that they share.

Files are hostile until they are decoded: sizes are checked from the header before memory is taken, and
whatever a codec raises becomes a refusal that names the field ``file``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL.Image import DecompressionBombError

from segserve.errors import BadInput, SegserveError, TooLarge, UnsupportedFormat
from segserve.types import Size

# The most that a JPEG can have. Resizing takes memory in proportion to the longest side, so a strip one pixel
# high cannot be allowed all of the pixel limit.
MAX_SIDE_PX = 65_535

_SAVE_AGAIN = "Open it in an image editor, save it as PNG or TIFF and send that."


@dataclass(frozen=True)
class RawPixels:
    """values [H, W, C] as stored, in the file's own type, RGB where the file has colour. If `has_alpha`, the
    last channel is opacity. orientation: EXIF's number, 1 to 8, of how to turn them."""

    values: NDArray[Any]
    has_alpha: bool
    orientation: int


@dataclass(frozen=True)
class ImageSource:
    """An image file of which the header is read and checked, and no pixel yet.

    size: as stored, before `orientation` turns it. read: all pixels at once. bands: the same from top to bottom
    as parts of [h, W, C], anew at each call; None where the file can only be read at once.
    """

    size: Size
    orientation: int
    read: Callable[[], RawPixels]
    bands: Callable[[], Iterator[RawPixels]] | None


@contextmanager
def wrap_codec_errors(name: str) -> Iterator[None]:
    """Surrounds calls of a codec for the format `name`, and nothing else: any exception becomes a refusal.

    Codecs raise nearly everything when given damaged bytes (OSError, SyntaxError, struct.error, KeyError...),
    so no list of exceptions would be complete.
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
    """The refusal of a file that does not follow its format."""
    return BadInput(f"The {name} file is damaged or cut short.", remedy=_SAVE_AGAIN, field="file")


def unsupported_error(what: str) -> UnsupportedFormat:
    """The refusal of a sound file that uses a part of its format that is not read here."""
    return UnsupportedFormat(f"{what} is not read.", remedy=_SAVE_AGAIN, field="file")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """An image of that many pixels may be decoded, or this raises."""
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
    """`page` must be one of the file's, counted from 0."""
    if not 0 <= page < pages:
        raise BadInput(
            f"There is no page {page} in a file of {pages}.",
            remedy=f"Pages are 0 to {pages - 1}.",
            field="page",
        )
