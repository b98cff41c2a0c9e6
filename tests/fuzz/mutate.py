"""Changes to bytes: flipped bits, other numbers, lengths that lie, pieces left out, repeated, or of another file."""

import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Literal

INTERESTING = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096, 32767,
               32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)  # fmt: skip
INTERESTING_TEXT = (b"0", b"-1", b"1", b"2", b"65536", b"2147483647", b"4294967296", b"99999999999999999999", b"1e308",
                    b"-0.5", b"NaN", b"inf", b"", b"0x10", b"1 1", b"\xff")  # fmt: skip
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
# Changes are made within so many bytes, where headers are, or anywhere.
HEADER_BYTES = (32, 128, 512, 4096, 1 << 30)
# Inputs do not grow beyond this.
MAX_BYTES = 1 << 20

Change = Callable[[random.Random, bytearray, int], None]


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes] = (), changes: int = 6) -> bytes:
    """Return the bytes after one to `changes` changes. others: what pieces may be taken from."""
    out = bytearray(data)
    limit = rng.choice(HEADER_BYTES)
    for _ in range(rng.randint(1, changes)):
        if others and rng.random() < 0.1:
            splice(rng, out, rng.choice(others))
        elif out:
            rng.choice(CHANGES)(rng, out, min(limit, len(out)))
    return bytes(out[:MAX_BYTES])


def flip_bit(rng: random.Random, data: bytearray, limit: int) -> None:
    data[rng.randrange(limit)] ^= 1 << rng.randrange(8)


def set_byte(rng: random.Random, data: bytearray, limit: int) -> None:
    data[rng.randrange(limit)] = rng.randrange(256)


def set_number(rng: random.Random, data: bytearray, limit: int) -> None:
    """Write a number of 1 to 8 bytes over another."""
    size = rng.choice((1, 2, 4, 4, 8))
    at = rng.randrange(limit)
    value = rng.choice(INTERESTING) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(ORDERS))


def change_number(rng: random.Random, data: bytearray, limit: int) -> None:
    """Add a little to a number of 2 or 4 bytes, such as a length or an offset."""
    size, order = rng.choice((2, 4)), rng.choice(ORDERS)
    at = rng.randrange(limit)
    value = int.from_bytes(data[at : at + size], order) + rng.choice((-2, -1, 1, 2, 8, -8))
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)


def change_length(rng: random.Random, data: bytearray, limit: int) -> None:
    """Change a number of 4 bytes that is probably a length or an offset: it lies within the file."""
    places = [(at, form) for at in range(0, min(limit, 4096) - 3, 2) for form in ("<I", ">I")
              if 0 < struct.unpack_from(form, data, at)[0] <= len(data)]  # fmt: skip
    if places:
        at, form = rng.choice(places)
        struct.pack_into(form, data, at, rng.choice((*INTERESTING, len(data), len(data) + 1)) % (1 << 32))


def change_text_number(rng: random.Random, data: bytearray, limit: int) -> None:
    """Change a number that is written in digits."""
    if numbers := list(re.finditer(rb"-?\d+(\.\d+)?", bytes(data[:limit]))):
        start, end = rng.choice(numbers).span()
        data[start:end] = rng.choice(INTERESTING_TEXT)


def change_line(rng: random.Random, data: bytearray, limit: int) -> None:
    """Leave out, repeat or move a line of a text header."""
    end = min(limit, 4096)
    lines = bytes(data[:end]).split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), line)
    data[:end] = b"\n".join(lines)


def truncate(rng: random.Random, data: bytearray, limit: int) -> None:
    del data[rng.randrange(len(data)) :]


def delete(rng: random.Random, data: bytearray, limit: int) -> None:
    at = rng.randrange(limit)
    del data[at : at + rng.choice((1, 2, 4, 16, 64, 1024))]


def repeat(rng: random.Random, data: bytearray, limit: int) -> None:
    at = rng.randrange(limit)
    piece = data[at : at + rng.choice((1, 2, 8, 16, 128, 1024))]
    data[at:at] = piece * rng.choice((1, 1, 2, 50))


def insert(rng: random.Random, data: bytearray, limit: int) -> None:
    at = rng.randrange(limit + 1)
    data[at:at] = rng.choice((b"\0", b"\xff", b"\r\n", rng.randbytes(4))) * rng.choice((1, 1, 4, 256))


def overwrite(rng: random.Random, data: bytearray, limit: int) -> None:
    """Write a piece of the file over another piece."""
    size = rng.choice((4, 16, 128, 1024))
    source, at = rng.randrange(len(data)), rng.randrange(limit)
    data[at : at + size] = data[source : source + size]


def splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    """Go on with the end of another file."""
    del data[rng.randrange(len(data) + 1) :]
    data += other[rng.randrange(len(other) + 1) :]


CHANGES: tuple[Change, ...] = (
    flip_bit, flip_bit, set_byte, set_number, set_number, change_number, change_length, change_length,
    change_text_number, change_line, truncate, delete, repeat, insert, overwrite,
)  # fmt: skip
