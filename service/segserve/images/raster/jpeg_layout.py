"""Read the layout of a JPEG stream before it is decoded: its components, its scans, and how much work they are.

libjpeg decodes an image of several scans, as every progressive one is, by going through all its blocks once for each
scan, however little a scan holds. So a small file can take minutes, and its coefficients are kept in memory. Markers
are searched in the way that libjpeg searches for them, so that no scan is seen by libjpeg alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import BinaryIO

from segserve.errors import TooLarge
from segserve.images.image_source import damaged_file_error

# The limit of libjpeg-turbo's own fuzzers, and the one that its authors recommend to applications ("Two Issues with
# the JPEG Standard", 2013). Encoders write about ten.
MAX_JPEG_SCANS = 500
# Blocks of 8 x 8 samples times the scans that go through them. 256 megapixels of three full components in the ten
# scans of usual encoders are 72 million. An empty scan costs 15 to 40 ns for each block on a core of an AMD EPYC.
MAX_JPEG_SCAN_BLOCKS = 1 << 27
# How many times as long an arithmetically coded block takes, which no browser reads.
ARITHMETIC_WEIGHT = 16
# Pillow reads the segments before the first scan one by one in Python. ICC profiles and C2PA manifests take some
# hundred.
MAX_JPEG_SEGMENTS = 1 << 16
# Pillow reads bytes between these segments one by one. There should be none.
MAX_JPEG_JUNK_BYTES = 1 << 20

_CHUNK_BYTES = 1 << 16
# 0x00 is a stuffed byte, 0xD0 to 0xD7 are restarts within a scan, and 0xFF fills.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_EOI, _SOS = 0xD9, 0xDA
# Markers without a length: TEM and SOI, and reserved ones, at which libjpeg ends with an error.
_MARKERS_WITHOUT_LENGTH = {*range(0x01, 0xC0), 0xD8}
# SOF0 to SOF15 without DHT, JPG and DAC.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_MARKERS = {0xC2, 0xC6, 0xCA, 0xCE}
_FIRST_ARITHMETIC_MARKER = 0xC9
_LOSSLESS_MARKERS = {0xC3, 0xC7, 0xCB, 0xCF}
_HIERARCHICAL_MARKERS = {0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF}
# SOF55 of JPEG-LS (ITU-T T.87).
_JPEG_LS_MARKER = 0xF7
# A coefficient has two bytes.
_BLOCK_BYTES = 2 * 64


@dataclass(frozen=True)
class JpegLayout:
    """`JpegLayout` is what a JPEG stream holds.

    frames: (lines, columns) of every frame header before the first scan; libjpeg decodes only streams with one.
    scans, scan_blocks: how many scans there are, and the blocks that they go through together. Only the first scan is
        counted where it holds all of the image.
    coefficient_bytes: memory for the coefficients of all blocks; 0 where a single scan holds all of the image.
    rare_kind: what to call a JPEG that is not one of 8-bit samples coded by DCT; None for the usual ones.
    """

    frames: tuple[tuple[int, int], ...]
    scans: int
    scan_blocks: int
    coefficient_bytes: int
    rare_kind: str | None = None

    @property
    def has_many_scans(self) -> bool:
        """Return whether the image can only be decoded as a whole."""
        return self.coefficient_bytes > 0


@dataclass(frozen=True)
class JpegFrame:
    """`JpegFrame` is a frame header.

    precision: bits of a sample.
    components: (id, blocks) of each; ids may be the same in a hostile file.
    """

    marker: int
    precision: int
    lines: int
    columns: int
    components: tuple[tuple[int, int], ...]

    @property
    def is_jpeg_ls(self) -> bool:
        return self.marker == _JPEG_LS_MARKER

    @property
    def is_lossless(self) -> bool:
        return self.marker in _LOSSLESS_MARKERS

    @property
    def is_hierarchical(self) -> bool:
        return self.marker in _HIERARCHICAL_MARKERS

    @property
    def is_arithmetic(self) -> bool:
        return _FIRST_ARITHMETIC_MARKER <= self.marker != _JPEG_LS_MARKER

    @property
    def rare_kind(self) -> str | None:
        """Return what to call the JPEG, unless its samples are 8-bit and coded by DCT."""
        if self.is_jpeg_ls:
            return "JPEG-LS"
        if self.is_hierarchical:
            return "Hierarchical JPEG"
        if self.is_lossless:
            return "Lossless JPEG"
        return None if self.precision == 8 else f"JPEG of {self.precision} bits"

    @property
    def weight(self) -> int:
        return ARITHMETIC_WEIGHT if self.is_arithmetic else 1

    @property
    def blocks(self) -> int:
        return sum(blocks for _, blocks in self.components)

    def count_scan_blocks(self, component_id: int) -> int:
        """Return the blocks of a component, the most that it can be."""
        same = [blocks for number, blocks in self.components if number == component_id]
        return max(same or [blocks for _, blocks in self.components])


def read_jpeg_layout(stream: BinaryIO) -> JpegLayout:
    """Read the stream from its start, to its end only where it has several scans.

    Raises BadInput for headers that are damaged, TooLarge for more segments, scans or work than is decoded.
    """
    frames: list[JpegFrame] = []
    scans = scan_blocks = segments = 0
    has_many_scans = False
    reader = _Reader(stream)
    for marker in reader.markers():
        if marker in _MARKERS_WITHOUT_LENGTH:
            continue
        if marker == _EOI:
            break
        segments += 1
        if segments > MAX_JPEG_SEGMENTS or (not scans and reader.junk_bytes > MAX_JPEG_JUNK_BYTES):
            raise _too_large_error("more segments or padding than any image needs")
        content = reader.read_segment()
        if (marker in _FRAME_MARKERS or marker == _JPEG_LS_MARKER) and not scans:
            frames.append(_parse_frame(marker, content))
        if marker != _SOS or not frames:
            continue
        frame = frames[0]
        components = _parse_scan(content)
        scans += 1
        scan_blocks += frame.weight * sum(map(frame.count_scan_blocks, components))
        check_jpeg_scans(scans, scan_blocks)
        has_many_scans |= frame.marker in _PROGRESSIVE_MARKERS or len(components) < len(frame.components)
        if not has_many_scans:
            break  # libjpeg takes no further scan
    coefficient_bytes = _BLOCK_BYTES * frames[0].blocks if has_many_scans else 0
    return JpegLayout(
        tuple((frame.lines, frame.columns) for frame in frames),
        scans,
        scan_blocks,
        coefficient_bytes,
        frames[0].rare_kind if frames else None,
    )


def read_jpeg_frame(stream: BinaryIO) -> JpegFrame | None:
    """Return the first frame header of the stream; None where there is none before a scan. Raises BadInput."""
    reader = _Reader(stream)
    for segments, marker in enumerate(reader.markers()):
        if marker in (_EOI, _SOS) or segments > MAX_JPEG_SEGMENTS:
            return None
        if marker in _MARKERS_WITHOUT_LENGTH:
            continue
        content = reader.read_segment()
        if marker in _FRAME_MARKERS or marker == _JPEG_LS_MARKER:
            return _parse_frame(marker, content)
    return None


def check_jpeg_scans(scans: int, scan_blocks: int) -> None:
    """Raise TooLarge for more scans, or blocks of scans, than are decoded of one image."""
    if scans > MAX_JPEG_SCANS:
        raise _too_large_error(f"more than {MAX_JPEG_SCANS} scans")
    if scan_blocks > MAX_JPEG_SCAN_BLOCKS:
        raise _too_large_error("more scans than an image of its size may have")


class _Reader:
    """`_Reader` reads segments from a stream, in chunks. junk_bytes: skipped between segments so far."""

    def __init__(self, stream: BinaryIO) -> None:
        stream.seek(0)
        self._stream, self._chunk, self._at = stream, b"", 0
        self.junk_bytes = 0

    def markers(self) -> Iterator[int]:
        """Yield the next marker after what was read, until the stream ends."""
        while True:
            found = _MARKER.search(self._chunk, self._at)
            end = found.end() if found else len(self._chunk) - self._chunk.endswith(b"\xff")
            self.junk_bytes += max(0, end - 2 * bool(found) - self._at)
            if found:
                self._at = end
                yield found[1][0]
            elif not self._fill(end):
                return

    def read_segment(self) -> bytes:
        """Return the content of a segment. Where the stream ends within it, return what there is."""
        length = int.from_bytes(self._read(2), "big")
        return self._read(length - 2) if length > 2 else b""

    def _read(self, count: int) -> bytes:
        while len(self._chunk) - self._at < count and self._fill(self._at):
            pass
        data = self._chunk[self._at : self._at + count]
        self._at += len(data)
        return data

    def _fill(self, keep_from: int) -> bool:
        """Read another chunk and drop what lies before `keep_from`. Return whether there was one."""
        more = self._stream.read(_CHUNK_BYTES)
        self._chunk, self._at = self._chunk[keep_from:] + more, max(0, self._at - keep_from)
        return bool(more)


def _parse_frame(marker: int, content: bytes) -> JpegFrame:
    """Read a frame header (ITU-T T.81, B.2.2)."""
    if len(content) < 6 or len(content) < 6 + 3 * content[5]:
        raise damaged_file_error("JPEG")
    lines, columns = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    headers = [content[at : at + 3] for at in range(6, 6 + 3 * content[5], 3)]
    factors = [(both >> 4, both & 15) for _, both, _ in headers]
    if not factors or min(map(min, factors)) < 1:
        raise damaged_file_error("JPEG")
    # Blocks of the whole groups (MCU) in which an interleaved scan goes through them.
    across = ceil(columns / (8 * max(h for h, _ in factors)))
    down = ceil(lines / (8 * max(v for _, v in factors)))
    blocks = [across * h * down * v for h, v in factors]
    return JpegFrame(
        marker, content[0], lines, columns, tuple(zip([header[0] for header in headers], blocks, strict=True))
    )


def _parse_scan(content: bytes) -> list[int]:
    """Return the ids of a scan's components (ITU-T T.81, B.2.3)."""
    if not content or not content[0] or len(content) < 1 + 2 * content[0]:
        raise damaged_file_error("JPEG")
    return list(content[1 : 1 + 2 * content[0] : 2])


def _too_large_error(contents: str) -> TooLarge:
    return TooLarge(
        f"The JPEG has {contents}.",
        field="file",
        remedy="Open it in an image editor and save it as a baseline JPEG.",
    )
