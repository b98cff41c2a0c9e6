"""Detect video formats by content."""

from segserve.images.formats import detect_heif

# FFmpeg's demuxer for each format. Only these are read: some of FFmpeg's formats name other files, or URLs, to read.
DEMUXERS = {
    "mp4": "mov",  # mov and 3gp too
    "webm": "matroska",
    "mkv": "matroska",
    "avi": "avi",
    "gif": "gif",
    "ts": "mpegts",
    "mpg": "mpeg",
    "wmv": "asf",
    "flv": "flv",
    "ogv": "ogg",
}
# Bytes of a file that tell its format.
VIDEO_HEAD_BYTES = 1024
# Boxes that a file of the MP4 family begins with.
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
CANON_RAW_BRAND = b"crx "
EBML_MAGIC = b"\x1aE\xdf\xa3"
ASF_MAGIC = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
MPEG_PACK_MAGIC = b"\0\0\1\xba"
# MPEG-TS has a packet of 188 bytes after another, each beginning with this byte. Blu-ray and AVCHD put 4 bytes of time
# before each, and broadcasters 16 of error correction behind.
TS_SYNC = 0x47
TS_LAYOUTS = ((0, 188), (4, 192), (0, 204))  # (offset, distance)
TS_PACKETS = 3


def detect_video_format(head: bytes) -> str | None:
    """Return a key of DEMUXERS by a file's first VIDEO_HEAD_BYTES, or None."""
    if head[4:8] in MP4_BOXES and not is_picture_box(head):
        return "mp4"
    if head[:4] == EBML_MAGIC:
        return "webm" if b"webm" in head[:64] else "mkv"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == MPEG_PACK_MAGIC:
        return "mpg"
    if head[:16] == ASF_MAGIC:
        return "wmv"
    if head[:4] == b"FLV\1":
        return "flv"
    if head[:4] == b"OggS":
        return "ogv"
    return "ts" if is_transport_stream(head) else None


def is_picture_box(head: bytes) -> bool:
    """Return whether a file is a HEIC, AVIF or raw picture, by its beginning."""
    return detect_heif(head) is not None or head[4:12] == b"ftyp" + CANON_RAW_BRAND


def is_transport_stream(head: bytes) -> bool:
    for offset, distance in TS_LAYOUTS:
        syncs = head[offset : offset + distance * TS_PACKETS : distance]
        if len(syncs) == TS_PACKETS and set(syncs) == {TS_SYNC}:
            return True
    return False
