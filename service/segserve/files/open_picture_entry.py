"""Open a picture that is part of another file: a page of a TIFF, or an entry of a zip."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from segserve.files.microscopy.microscope_file import count_images, open_series_picture
from segserve.files.microscopy.open_microscope_file import ENTRY_FORMATS, open_microscope_entry
from segserve.images import formats
from segserve.images.formats import detect_image_format
from segserve.images.image_source import ImageSource
from segserve.images.open_any_image import open_any_image
from segserve.images.tiff.reader import count_pages

# Their headers are not at the beginning.
WHOLE_FILE_FORMATS = {formats.TIFF, *ENTRY_FORMATS}


@dataclass(frozen=True)
class PictureEntry:
    """`PictureEntry` is an opened picture. pages: how many images its file has."""

    source: ImageSource
    pages: int


@contextmanager
def open_picture_entry(
    stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
) -> Iterator[PictureEntry]:
    """Open a picture while the block runs. Raises as `open_any_image` does, and MissingDependency."""
    image_format = detect_image_format(stream)
    if image_format in ENTRY_FORMATS:
        with closing(open_microscope_entry(stream, image_format)) as file:
            source = open_series_picture(file, page, max_pixels, max_banded_pixels)
            yield PictureEntry(source, count_images(file))
        return
    source = open_any_image(stream, page, max_pixels, max_banded_pixels)
    yield PictureEntry(source, count_pages(stream) if image_format is formats.TIFF else 1)
