"""Large masks in blocks: a block of ones alone has no pixels, so area, box and run lengths cost what the edge costs."""

from functools import cached_property

import numpy as np

from segserve.types import Bool, Crop, Int64, Size

# Pixels a side of a block. Smaller blocks follow the edge more closely but cost more calls.
BLOCK_PX = 64


class BlockCrop(Crop):
    """`BlockCrop` is a crop whose pixels are written when somebody first asks for them. It holds a one at least.

    solid: [rows, columns] bool, the blocks of ones alone. All of such a block is on the image.
    y, x: [n], indices of the blocks that may hold both ones and zeros. All others are zeros.
    bits: [n, BLOCK_PX, BLOCK_PX] bool, the pixels of those; zeros past the image's edge.
    row, column: indices, on the image, of the first block.
    box: (x0, y0, x1, y1) of the ones, x1 and y1 exclusive.
    """

    box: tuple[int, int, int, int]
    _solid: Bool
    _block_y: Int64
    _block_x: Int64
    _bits: Bool
    _row: int
    _column: int

    def __init__(
        self, solid: Bool, y: Int64, x: Int64, bits: Bool, *, row: int, column: int, size: Size
    ) -> None:
        self.__dict__.update(
            size=size, _solid=solid, _block_y=y, _block_x=x, _bits=bits, _row=row, _column=column
        )
        (top, bottom), (left, right) = self._find_ends(axis=0), self._find_ends(axis=1)
        self.__dict__.update(x=left, y=top, box=(left, top, right, bottom))

    @cached_property
    def pixels(self) -> Bool:
        """The mask cut to the bounding box of its ones, [h, w] bool."""
        rows, columns = self._solid.shape
        canvas = np.zeros((rows * BLOCK_PX, columns * BLOCK_PX), np.bool_)
        blocks = canvas.reshape(rows, BLOCK_PX, columns, BLOCK_PX)
        y, x = np.nonzero(self._solid)
        blocks[y, :, x, :] = True
        blocks[self._block_y, :, self._block_x, :] = self._bits
        x0, y0, x1, y1 = self.box
        top, left = self._row * BLOCK_PX, self._column * BLOCK_PX
        return canvas[y0 - top : y1 - top, x0 - left : x1 - left]

    @cached_property
    def area(self) -> int:
        """The number of ones, in pixels."""
        return int(np.count_nonzero(self._solid)) * BLOCK_PX**2 + int(np.count_nonzero(self._bits))

    def find_changes(self) -> Int64:
        """Return the ascending column-major positions on the image where the value differs from the one above.

        A run that ends at the foot of a column ends at the position where the next column begins. Where a run begins
        there too, the position is named twice.
        """
        rows, columns = self._solid.shape
        # Between two blocks, and at the ends: the last row of the block above against the first of the one below.
        above, below = np.zeros((2, rows + 1, columns, BLOCK_PX), np.bool_)
        above[1:], below[:-1] = self._solid[:, :, None], self._solid[:, :, None]
        above[self._block_y + 1, self._block_x] = self._bits[:, -1]
        below[self._block_y, self._block_x] = self._bits[:, 0]
        between_y, between_x = np.divmod(np.flatnonzero(above != below), columns * BLOCK_PX)
        inside = np.flatnonzero(self._bits[:, 1:] != self._bits[:, :-1])
        index, place = np.divmod(inside, (BLOCK_PX - 1) * BLOCK_PX)
        inside_y, inside_x = np.divmod(place, BLOCK_PX)
        y = np.concatenate([between_y * BLOCK_PX, self._block_y[index] * BLOCK_PX + inside_y + 1])
        x = np.concatenate([between_x, self._block_x[index] * BLOCK_PX + inside_x])
        return np.sort(
            (x + self._column * BLOCK_PX) * self.size.height + y + self._row * BLOCK_PX, kind="stable"
        )

    def _find_ends(self, axis: int) -> tuple[int, int]:
        """Return the first and the last (exclusive) row (axis 0) or column (axis 1) of the image with a one."""
        block, first = ((self._block_y, self._row), (self._block_x, self._column))[axis]
        solid = np.nonzero(self._solid)[axis] * BLOCK_PX
        ones: Bool = np.any(self._bits, axis=2 - axis)
        has_ones = ones.any(axis=1)
        starts = block * BLOCK_PX + ones.argmax(axis=1)
        ends = (block + 1) * BLOCK_PX - ones[:, ::-1].argmax(axis=1)
        low = np.concatenate([solid, starts[has_ones]]).min()
        high = np.concatenate([solid + BLOCK_PX, ends[has_ones]]).max()
        return int(low) + first * BLOCK_PX, int(high) + first * BLOCK_PX
