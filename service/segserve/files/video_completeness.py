"""Find out how long a video file says that it is. Of one that is cut short FFmpeg reads what there is, in silence."""

import struct
from pathlib import Path
from typing import BinaryIO

# Boxes of MP4 that may be long (ISO/IEC 14496-12). What follows the last one may be anything.
LONG_BOXES = {b"mdat", b"moov", b"moof", b"free", b"wide", b"skip"}
MAX_BOXES = 100_000
EBML_ID, SEGMENT_ID = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def find_stated_bytes(path: Path, file_format: str) -> int:
    """Return how many bytes a file states that it has; 0 where it does not. file_format: a key of `DEMUXERS`."""
    with path.open("rb") as file:
        match file_format:
            case "mp4":
                return find_end_of_boxes(file)
            case "mkv" | "webm":
                return find_end_of_segment(file)
            case "avi":
                # The first list of a file over 1 GB is not the last. A recorder that was stopped leaves 0.
                size = struct.unpack("<I", file.read(8)[4:])[0]
                return int(size + 8) if size else 0
    return 0


def describe_missing_bytes(path: Path, file_format: str) -> list[str]:
    """Return a sentence where a file has fewer bytes than it states."""
    file_bytes, stated = path.stat().st_size, find_stated_bytes(path, file_format)
    return [f"The file is cut short: it has {file_bytes} of {stated} bytes."] if file_bytes < stated else []


def find_end_of_boxes(file: BinaryIO) -> int:
    """Return the end of the last long box at the top level of an MP4."""
    position, file_bytes = 0, file.seek(0, 2)
    for _ in range(MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        end = position + size
        if size < 8 or (end > file_bytes and name not in LONG_BOXES):
            break
        position = end
    return position


def find_end_of_segment(file: BinaryIO) -> int:
    """Return the end of the first segment of a Matroska file (RFC 8794, 6); 0 where its length is not stated."""
    file.seek(len(EBML_ID))
    header_bytes = read_length(file)
    if header_bytes is None:
        return 0
    file.seek(header_bytes, 1)
    if file.read(len(SEGMENT_ID)) != SEGMENT_ID:
        return 0
    length = read_length(file)
    return 0 if length is None else file.tell() + length


def read_length(file: BinaryIO) -> int | None:
    """Read an element's length, a number of 1 to 8 bytes whose first bits tell how many; None: it is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length_bytes = 9 - first[0].bit_length()
    mask = (1 << (7 * length_bytes)) - 1
    length = int.from_bytes(first + file.read(length_bytes - 1), "big") & mask
    return None if length == mask else length
