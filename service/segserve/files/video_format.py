"""Detect video formats by content."""

# FFmpeg's demuxer for each format. Only these are read: some of FFmpeg's formats name other files, or URLs, to read.
DEMUXERS = {"mp4": "mov", "webm": "matroska", "avi": "avi", "gif": "gif"}


def detect_video_format(head: bytes) -> str | None:
    """Return a key of DEMUXERS by a file's first 12 bytes, or None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "webm"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "gif" if head[:6] in (b"GIF87a", b"GIF89a") else None
