"""Label Studio's run lengths of brushes: not COCO's, but those of the JavaScript package @thi.ng/rle-pack.

A mask is an RGBA picture, row by row: each pixel is four values, 0 or 255. It is packed as a stream of bits, the
highest first: the number of values (32 bits), the bits of a value less 1 (5), four sizes in bits, each less 1 (4 each).
Then codes until all values are there: a flag (1: one value repeated; 0: as many different values), the index of a size
(2), the length less 1 (in so many bits), the value or the values. The reference is `label_studio_sdk.converter.brush`.
"""

import numpy as np

from segserve.errors import BadInput
from segserve.types import Bool, Crop, Int64, Size, UInt8

CHANNELS = 4
SET = 255  # the value of a pixel that belongs to the mask
VALUE_BITS = 8
LENGTH_BITS = np.array([3, 4, 8, 16])
MAX_LENGTHS = 1 << LENGTH_BITS  # of the runs that each size can hold
COUNT_BITS, VALUE_SIZE_BITS, SIZE_BITS, INDEX_BITS = 32, 5, 4, 2
HEADER_BITS = COUNT_BITS + VALUE_SIZE_BITS + len(LENGTH_BITS) * SIZE_BITS
# A code with its offset in its first byte: at most 7 + 32 bits.
SPAN_BYTES = 5


def encode(mask: Crop) -> UInt8:
    """Return the bytes of a mask, as the reference writes them."""
    lengths, values = find_runs(mask)
    lengths *= CHANNELS
    index = np.searchsorted(MAX_LENGTHS[:-1], lengths)  # the smallest size that holds the run
    # Runs over the largest size are cut. Their rest keeps this size.
    largest = int(MAX_LENGTHS[-1])
    parts = (lengths - 1) // largest + 1
    rest = lengths - (parts - 1) * largest
    run = np.repeat(np.arange(len(lengths)), parts)
    lengths = np.full(len(run), largest)
    lengths[np.cumsum(parts) - 1] = rest
    index, values = index[run], values[run]
    bits = LENGTH_BITS[index]
    codes = (((1 << INDEX_BITS | index) << bits | lengths - 1) << VALUE_BITS) | values
    header = VALUE_BITS - 1
    for size in LENGTH_BITS.tolist():
        header = header << SIZE_BITS | size - 1
    count = mask.size.height * mask.size.width * CHANNELS
    return pack_bits(
        np.concatenate([[count, header], codes]),
        np.concatenate([[COUNT_BITS, HEADER_BITS - COUNT_BITS], 1 + INDEX_BITS + bits + VALUE_BITS]),
    )


def find_runs(mask: Crop) -> tuple[Int64, Int64]:
    """Return the lengths in pixels and the values, 0 or 255, of all runs, row by row over the whole image."""
    height, width = mask.pixels.shape
    padded = np.zeros((height, width + 2), np.bool_)
    padded[:, 1:-1] = mask.pixels
    # Where ones begin and end, in turns: each row has as many beginnings as ends.
    rows, columns = np.divmod(np.flatnonzero(padded[:, 1:] != padded[:, :-1]), width + 1)
    bounds = (rows + mask.y) * mask.size.width + columns + mask.x
    lengths = np.diff(bounds, prepend=0, append=mask.size.height * mask.size.width)
    values = np.arange(len(lengths)) % 2 * SET
    kept = lengths > 0  # a run over the right edge of the image goes on in the next row
    lengths, values = lengths[kept], values[kept]
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return np.add.reduceat(lengths, starts), values[starts]


def pack_bits(codes: Int64, widths: Int64) -> UInt8:
    """Return the codes one after the other, each in so many bits. At least one bit of 0 fills up the last byte."""
    ends = np.cumsum(widths)
    starts = ends - widths
    count = int(ends[-1]) // 8 + 1
    first, offsets = starts >> 3, starts & 7
    aligned = codes << (SPAN_BYTES * 8 - offsets - widths)
    packed = np.zeros(count + SPAN_BYTES, np.int64)
    for number in range(SPAN_BYTES):
        part = aligned >> (SPAN_BYTES - 1 - number) * 8 & 0xFF
        # No two codes share a bit, so sums are unions.
        packed += np.bincount(first + number, weights=part, minlength=len(packed)).astype(np.int64)
    return packed[:count].astype(np.uint8)


def decode(data: bytes, size: Size, field: str) -> Bool:
    """Return the mask [H, W]: where the picture is not transparent. Blocks.

    size: of the image. field: of the request, for errors. Raises BadInput.
    """
    count = size.height * size.width * CHANNELS
    bits = BitReader(data)
    if bits.read(COUNT_BITS) != count or bits.read(VALUE_SIZE_BITS) + 1 != VALUE_BITS:
        raise BadInput(
            "The run lengths are not those of a mask of the image's size.",
            field=field,
            remedy=f"Send {count} values of 8 bits: red, green, blue and opacity of each pixel.",
        )
    sizes = [bits.read(SIZE_BITS) + 1 for _ in LENGTH_BITS]
    values, done = np.zeros(count, np.uint8), 0
    while done < count:
        is_run = bits.read(1)
        length = bits.read(sizes[bits.read(INDEX_BITS)]) + 1
        read = bits.read_values(1 if is_run else length)
        if bits.is_over or done + length > count:
            raise BadInput(
                "The run lengths are cut short or too long.", field=field, remedy="Send all of them."
            )
        values[done : done + length] = read
        done += length
    opacity: UInt8 = values.reshape(size.height, size.width, CHANNELS)[:, :, -1]
    return opacity > 0


class BitReader:
    """`BitReader` reads numbers of a stream of bits, the highest first. Beyond its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._bits = data + bytes(SPAN_BYTES), 0, len(data) * 8

    @property
    def is_over(self) -> bool:
        """Whether more was read than there is."""
        return self._at > self._bits

    def read(self, width: int) -> int:
        """Return the next number, of at most 32 bits."""
        first, offset = self._at >> 3, self._at & 7
        self._at += width
        window = int.from_bytes(self._data[first : first + SPAN_BYTES].ljust(SPAN_BYTES, b"\0"))
        return window >> SPAN_BYTES * 8 - offset - width & (1 << width) - 1

    def read_values(self, count: int) -> UInt8 | int:
        """Return the next values, or the next one if there is one."""
        if count == 1:
            return self.read(VALUE_BITS)
        first, offset = self._at >> 3, self._at & 7
        self._at += count * VALUE_BITS
        part = np.frombuffer(self._data, np.uint8)[first : first + count + 1]
        bits = np.unpackbits(part)[offset : offset + count * VALUE_BITS]
        return np.packbits(np.pad(bits, (0, count * VALUE_BITS - len(bits))))
