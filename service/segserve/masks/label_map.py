"""Label maps [H, W]: 0 is background, 1 to n the objects. As files, as pictures, and from and to single masks."""

import colorsys
import io
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage

from segserve.errors import TooLarge
from segserve.masks import crop as crops
from segserve.masks import rle
from segserve.types import Crop, Size, UInt8

Labels: TypeAlias = NDArray[np.integer[Any]]

MAX_UINT16_ID = 65_535
FILL_OPACITY = 0.35  # opacity of an object's colour over the image
STRIP_ROWS = 256  # coloured at a time
HUE_STEP = 0.618033988749895  # neighbouring ids get hues far apart


def from_crops(found: Sequence[Crop], size: Size) -> Labels:
    """The map [H, W] in which `found[i]` has id i + 1; uint16, or uint32 beyond 65,535 objects. Where objects
    overlap the smaller one shows, so that what lies on a larger object is not lost."""
    dtype = np.uint16 if len(found) <= MAX_UINT16_ID else np.uint32
    labels = np.zeros((size.height, size.width), dtype)
    areas = np.array([crops.area(each) for each in found])
    for index in np.argsort(-areas, kind="stable"):
        each = found[index]
        height, width = each.pixels.shape
        labels[each.y : each.y + height, each.x : each.x + width][each.pixels] = index + 1
    return labels


def from_rle(found: Iterable[tuple[int, str, int]], size: Size, dtype: DTypeLike) -> Labels:
    """The map [H, W] of (value, COCO's compressed run lengths, area) of each object; where they overlap the smaller
    one shows, as in `from_crops`. No mask is unpacked. Raises BadInput where run lengths are not of `size`."""
    columns = np.zeros(size.width * size.height, dtype)
    for value, counts, _ in sorted(found, key=lambda each: -each[2]):
        for begin, end in rle.runs(counts, size).tolist():
            columns[begin:end] = value
    return np.ascontiguousarray(columns.reshape(size.width, size.height).T)


def to_crops(labels: Labels) -> list[Crop]:
    """The objects by ascending id; ids that do not occur are passed over."""
    size = Size(*labels.shape)
    found = []
    if labels.max(initial=0) > labels.size:  # what follows takes memory for every id up to the largest
        labels = np.searchsorted(np.unique(np.append(labels, 0)), labels)
    for index, where in enumerate(ndimage.find_objects(labels)):
        if where is not None:
            rows, columns = where
            found.append(Crop(labels[where] == index + 1, columns.start, rows.start, size))
    return found


def encode_png(labels: Labels) -> bytes:
    """Greyscale: 8-bit of a uint8 map, 16-bit of any other. Raises TooLarge for ids that 16 bits do not hold."""
    if labels.size and labels.max() > MAX_UINT16_ID:
        raise TooLarge(
            f"There are ids up to {labels.max()}, and a PNG holds {MAX_UINT16_ID}.",
            field="format",
            remedy="Ask for format 'tiff' or 'npy'.",
        )
    values = np.ascontiguousarray(labels if labels.dtype == np.uint8 else labels.astype(np.uint16))
    # Rows are much like those above them; the other filters cost far more time than they save bytes.
    return bytes(imagecodecs.png_encode(values, level=1, filter=imagecodecs.PNG.FILTER.UP))


def encode_tiff(labels: Labels) -> bytes:
    """zlib-compressed, in the map's own type."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, compression="zlib", predictor=True, photometric="minisblack")
    return buffer.getvalue()


def encode_npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def make_colour_table(numbers: Iterable[int]) -> UInt8:
    """[n + 1, 3] RGB: black for the background, then for each number its colour, always the same."""
    found = [(0.0, 0.0, 0.0)]
    for number in numbers:
        at = number - 1
        found.append(colorsys.hsv_to_rgb(at * HUE_STEP % 1.0, 0.75, 0.6 + 0.4 * (at % 3) / 2))
    table: UInt8 = np.rint(np.array(found) * 255).astype(np.uint8)
    return table


def find_outlines(labels: Labels, width: int = 1) -> NDArray[np.bool_]:
    """[H, W]: pixels of objects that are less than `width` from another value above, below or beside them."""
    edge = find_borders(labels)
    for _ in range(1, width):
        edge |= find_borders(np.where(edge, 0, labels))
    return edge


def find_borders(labels: Labels) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (labels > 0)


def draw_overlay(image: UInt8, labels: Labels, table: UInt8 | None = None, width: int = 1) -> UInt8:
    """Return the image [H, W, 3] with every object filled faintly and outlined in its colour.

    table: of `make_colour_table`, by the map's values; None: each value is its own number. width: of outlines, in
    pixels.
    """
    if table is None:
        table = make_colour_table(range(1, int(labels.max(initial=0)) + 1))
    result = image.copy()
    faint, tints = np.arange(256) * np.float32(1 - FILL_OPACITY), table * np.float32(FILL_OPACITY)
    for top in range(0, len(labels), STRIP_ROWS):  # blending takes 50 bytes a pixel
        ids, strip = labels[top : top + STRIP_ROWS], result[top : top + STRIP_ROWS]
        inside = ids > 0
        strip[inside] = (faint[strip[inside]] + tints[ids[inside]]).astype(np.uint8)
    edge = find_outlines(labels, width)
    result[edge] = table[labels[edge]]
    return result


def encode_overlay(image: UInt8, labels: Labels) -> bytes:
    return bytes(imagecodecs.png_encode(draw_overlay(image, labels), level=1))
