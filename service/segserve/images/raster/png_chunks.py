"""Count the chunks of a PNG before a library reads them."""

from typing import BinaryIO

from segserve.errors import TooLarge

# Pillow reads chunks one by one in Python, 5 to 10 us each. 2 GB of pixels in chunks of 8 KiB, which libpng writes, are
# fewer.
MAX_PNG_CHUNKS = 300_000
_SIGNATURE_BYTES = 8
# Of a chunk: length, type and checksum.
_CHUNK_OVERHEAD_BYTES = 12


def check_png_chunks(stream: BinaryIO) -> None:
    """Raise TooLarge for a PNG of more than MAX_PNG_CHUNKS chunks. Damage is left to the decoder."""
    at = _SIGNATURE_BYTES
    for _ in range(MAX_PNG_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        at += _CHUNK_OVERHEAD_BYTES + int.from_bytes(head[:4], "big")
    raise TooLarge(
        f"The PNG has more than {MAX_PNG_CHUNKS} chunks.",
        field="file",
        remedy="Open it in an image editor and save it again.",
    )
