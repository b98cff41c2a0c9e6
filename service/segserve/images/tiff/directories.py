"""Walk and check the chain of directories (pages) of a TIFF file before a library reads any of them.

tifffile loads the first page's directory as soon as it opens a file, makes a Python object of each value of some tags,
and follows a chain that runs in a circle. So lengths are checked here first. Layouts: TIFF 6.0, section 2, and the
BigTIFF design.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from tifffile import TIFF

from segserve.errors import TooLarge
from segserve.images.image_source import damaged_file_error, wrap_codec_errors

_MAX_PAGES = 1 << 16
# Far more than an image of MAX_SIDE_PX has strips, or the longest description has characters. About 200 MB of objects.
_MAX_TAG_VALUES = 1 << 22
_MAX_TAGS = 4096
# Types of whole numbers: BYTE, SHORT, LONG, LONG8.
_NUMBER_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Layout:
    """`_Layout` holds the struct formats of a directory.

    entry_count: number of entries. entry: (tag, type, count, value). offset: of the next directory.
    """

    entry_count: str
    entry: str
    offset: str


def read_directory_offsets(stream: BinaryIO) -> list[int]:
    """Return the offset in bytes of every page's directory, at least one, each checked.

    Raises BadInput if the chain is broken or circular, TooLarge if a page or the number of pages is.
    """
    offsets: list[int] = []
    seen: set[int] = set()
    with wrap_codec_errors("TIFF"):
        layout, offset = _read_header(stream)
        while offset:
            if offset in seen:
                raise damaged_file_error("TIFF")
            if len(offsets) == _MAX_PAGES:
                raise _too_large_error(f"more than {_MAX_PAGES} pages")
            offsets.append(offset)
            seen.add(offset)
            offset = _check_directory(stream, layout, offset)
    if not offsets:
        raise damaged_file_error("TIFF")
    return offsets


def read_page_shape(stream: BinaryIO, offset: int) -> tuple[int, int, int]:
    """Return (height, width, samples a pixel) of a directory that `read_directory_offsets` has returned.

    Raises BadInput where the directory does not state them.
    """
    with wrap_codec_errors("TIFF"):
        layout, _ = _read_header(stream)
        stream.seek(offset)
        entry_count = _read_number(stream, layout.entry_count)
        # The value of a SHORT lies at the beginning of the field.
        order, is_big = layout.offset[0], layout.offset[1] == "Q"
        entry = order + ("HHQ8s" if is_big else "HHI4s")
        values = {277: 1}
        for tag, kind, _, value in struct.iter_unpack(
            entry, stream.read(entry_count * struct.calcsize(entry))
        ):
            if tag in (256, 257, 277) and kind in _NUMBER_FORMATS:
                values[tag] = struct.unpack_from(order + _NUMBER_FORMATS[kind], value)[0]
        return values[257], values[256], values[277]


def _read_header(stream: BinaryIO) -> tuple[_Layout, int]:
    """Return the layout and the first directory's offset."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", head, 2)
    if version == 43:
        return _Layout(order + "Q", order + "HHQ8x", order + "Q"), struct.unpack_from(order + "Q", head, 8)[0]
    return _Layout(order + "H", order + "HHI4x", order + "I"), struct.unpack_from(order + "I", head, 4)[0]


def _check_directory(stream: BinaryIO, layout: _Layout, offset: int) -> int:
    """Check a directory and return the next one's offset, 0 after the last."""
    stream.seek(offset)
    entry_count = _read_number(stream, layout.entry_count)
    if entry_count > _MAX_TAGS:
        raise damaged_file_error("TIFF")
    entries = struct.iter_unpack(layout.entry, stream.read(entry_count * struct.calcsize(layout.entry)))
    if sum(count for tag, _, count in entries if tag in TIFF.TAG_LOAD) > _MAX_TAG_VALUES:
        raise _too_large_error("a page with too much metadata")
    return _read_number(stream, layout.offset)


def _read_number(stream: BinaryIO, struct_format: str) -> int:
    value: int = struct.unpack(struct_format, stream.read(struct.calcsize(struct_format)))[0]
    return value


def _too_large_error(contents: str) -> TooLarge:
    return TooLarge(
        f"The TIFF file has {contents}.", remedy="Save the page as a file of its own.", field="file"
    )
