"""Walk the chunks of a PNG before a library reads them: count them, and leave out those that no pixel needs."""

import io
from bisect import bisect_right
from itertools import accumulate
from typing import Any, BinaryIO, cast

from segserve.errors import TooLarge

# Pillow reads chunks one by one in Python, 5 to 10 us each. 2 GB of pixels in chunks of 8 KiB, which libpng writes, are
# fewer.
MAX_PNG_CHUNKS = 300_000
_SIGNATURE_BYTES = 8
# Of a chunk: length, type and checksum.
_CHUNK_OVERHEAD_BYTES = 12
# More than any file has.
_TO_THE_END = 1 << 62

# Chunks that Pillow unpacks and keeps, and refuses where they are large: texts and the colour profile. None of them
# changes a pixel.
_METADATA = {b"zTXt", b"iTXt", b"tEXt", b"iCCP"}


def read_png_chunks(stream: BinaryIO) -> BinaryIO:
    """Return the PNG without its texts and colour profile. Damage is left to the decoder.

    Raises TooLarge for a PNG of more than MAX_PNG_CHUNKS chunks.
    """
    begin, at, ranges = 0, _SIGNATURE_BYTES, list[tuple[int, int]]()
    for _ in range(MAX_PNG_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            if not ranges:
                return stream
            ranges.append((begin, _TO_THE_END))
            return cast(BinaryIO, io.BufferedReader(PngPixelsOnly(stream, ranges)))
        end = at + _CHUNK_OVERHEAD_BYTES + int.from_bytes(head[:4], "big")
        if head[4:] in _METADATA:
            ranges.append((begin, at - begin))
            begin = end
        at = end
    raise TooLarge(
        f"The PNG has more than {MAX_PNG_CHUNKS} chunks.",
        field="file",
        remedy="Open it in an image editor and save it again.",
    )


class PngPixelsOnly(io.RawIOBase):
    """`PngPixelsOnly` reads a PNG as if it had no texts and no colour profile.

    ranges: (offset, bytes) of what remains, in order.
    """

    def __init__(self, stream: BinaryIO, ranges: list[tuple[int, int]]) -> None:
        self._stream, self._ranges = stream, ranges
        self._starts = list(accumulate((count for _, count in ranges), initial=0))
        self._at = 0

    def readinto(self, buffer: Any) -> int:
        number = bisect_right(self._starts, self._at) - 1
        if number >= len(self._ranges):
            return 0
        offset, count = self._ranges[number]
        within = self._at - self._starts[number]
        self._stream.seek(offset + within)
        data = self._stream.read(min(len(buffer), count - within))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("seek from the end")
        self._at = max(0, offset + (self._at if whence == io.SEEK_CUR else 0))
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
