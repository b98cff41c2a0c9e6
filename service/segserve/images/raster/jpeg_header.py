"""Read the frame headers of a JPEG stream, in the way that libjpeg searches for them."""

# Markers without a length: TEM, RST0 to RST7, SOI. 0x00 is no marker but a stuffed byte.
_MARKERS_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
# SOF0 to SOF15 without DHT, JPG and DAC.
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# EOI, and the start of a scan.
_END_MARKERS = {0xD9, 0xDA}


def read_frame_sizes(stream: bytes) -> list[tuple[int, int]]:
    """Return (lines, columns) of every frame header before the first scan (ITU-T T.81, annex B).

    Bytes between segments are skipped, as libjpeg does. Raises IndexError if the stream ends within a header.
    """
    sizes = []
    at = 0
    while (at := stream.find(b"\xff", at)) >= 0:
        while at < len(stream) and stream[at] == 0xFF:
            at += 1
        if at == len(stream) or stream[at] in _END_MARKERS:
            break
        marker = stream[at]
        at += 1
        if marker in _MARKERS_WITHOUT_LENGTH:
            continue
        if marker in _FRAME_MARKERS:
            lines, columns = stream[at + 3] << 8 | stream[at + 4], stream[at + 5] << 8 | stream[at + 6]
            sizes.append((lines, columns))
        at += stream[at] << 8 | stream[at + 1]
    return sizes
