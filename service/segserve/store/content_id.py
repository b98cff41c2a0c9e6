"""Content ids: an image_id or file_id is the sha256 of the content, so the same upload twice is stored once."""

import hashlib
from typing import BinaryIO

from segserve.types import FileOptions, Normalise, ReadOptions

READ_CHUNK_BYTES = 1 << 20


def compute_content_id(file: BinaryIO, options: ReadOptions | FileOptions) -> tuple[str, int]:
    """Return (id, number of bytes): the sha256 of the bytes, and of the options unless they change nothing."""
    digest, count = hash_content(file)
    return add_options(digest, options), count


def hash_content(file: BinaryIO) -> tuple[bytes, int]:
    """Return the sha256 of the bytes, and their number."""
    digest, count = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(READ_CHUNK_BYTES):
        digest.update(chunk)
        count += len(chunk)
    return digest.digest(), count


def add_options(digest: bytes, options: ReadOptions | FileOptions) -> str:
    """Return the id of content with this sha256, read with these options."""
    if options in (FileOptions(), ReadOptions(normalise=Normalise.NONE)):
        return digest.hex()
    # Hashed again, not appended: otherwise bytes that end like options would stand for another image with them.
    return hashlib.sha256(digest + encode_options(options)).hexdigest()


def encode_options(options: ReadOptions | FileOptions) -> bytes:
    """Return the options as bytes to hash. A change of this text changes the ids of images or files."""
    if isinstance(options, FileOptions):
        return f"time={options.time};series={options.series}".encode()
    text = f"page={options.page};channels={options.channels};normalise={options.normalise}"
    if options.stain is not None:
        text += f";stain={options.stain}"
    return (text + (";invert" if options.invert else "")).encode()


def is_content_id(text: str) -> bool:
    """Return whether the text is a sha256 in lower-case hexadecimal digits."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
