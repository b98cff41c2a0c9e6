"""Label maps [H, W]: 0 is background, 1 to n are the objects.

Converted from and to single masks, encoded as files (PNG, TIFF, npy), and drawn over the image (overlay).
"""

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
from segserve.types import Crop, ImageObjects, Size, UInt8

Labels: TypeAlias = NDArray[np.integer[Any]]

MAX_UINT16_ID = 65_535
# A part that is cut off from its object shows at least this share of the largest part, or is a crumb.
MIN_CRUMB_SHARE = 0.1
# Opacity of an object's colour over the image, 0 to 1.
FILL_OPACITY = 0.35
# Rows blended at a time: blending takes 50 bytes a pixel.
STRIP_ROWS = 256
# The golden ratio's fraction, in turns of the colour wheel: consecutive ids get hues far apart.
HUE_STEP = 0.618033988749895


def from_crops(masks: Sequence[Crop], size: Size) -> Labels:
    """Return the label map [H, W] in which `masks[i]` has id i + 1; uint16, or uint32 beyond 65,535 masks.

    Where masks overlap, the smaller one shows, so that an object on a larger one is not lost.
    """
    dtype = np.uint16 if len(masks) <= MAX_UINT16_ID else np.uint32
    labels = np.zeros((size.height, size.width), dtype)
    areas = np.array([crops.area(mask) for mask in masks])
    for index in np.argsort(-areas, kind="stable"):
        mask = masks[index]
        height, width = mask.pixels.shape
        labels[mask.y : mask.y + height, mask.x : mask.x + width][mask.pixels] = index + 1
    return labels


def from_objects(result: ImageObjects) -> Labels:
    """Return the label map [H, W] of all objects of an image, as `from_crops` does."""
    labels = from_crops([item.crop for item in result.objects], result.size)
    return join_crumbs(labels) if result.join_crumbs else labels


def join_crumbs(labels: Labels) -> Labels:
    """Return the label map without crumbs: parts of an object that others cut off from it where they lie on top.

    A part (4-connected) of less than MIN_CRUMB_SHARE of the object's largest part becomes a part of the neighbour that
    it shares most of its border with, or background where that is the background.
    """
    result = labels.copy()
    for index, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        parts, count = ndimage.label(labels[window] == index + 1)
        if count < 2:
            continue
        areas = np.bincount(parts.ravel())
        areas[0] = 0
        around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in window)
        offset = tuple(side.start - outer.start for side, outer in zip(window, around, strict=True))
        for part in np.flatnonzero((areas > 0) & (areas < MIN_CRUMB_SHARE * areas.max())):
            crumb = np.zeros(labels[around].shape, np.bool_)
            crumb[offset[0] : offset[0] + parts.shape[0], offset[1] : offset[1] + parts.shape[1]] = (
                parts == part
            )
            border = ndimage.binary_dilation(crumb) & ~crumb
            result[around][crumb] = np.bincount(result[around][border], minlength=1).argmax()
    return result


def from_rle(objects: Iterable[tuple[int, str, int]], size: Size, dtype: DTypeLike) -> Labels:
    """Return the label map [H, W] of objects given as COCO run lengths, without unpacking any mask.

    objects: (id, compressed counts, area in pixels) of each. Where objects overlap, the smaller one shows, as in
    `from_crops`. Raises BadInput where run lengths are not of `size`.
    """
    columns = np.zeros(size.width * size.height, dtype)
    for object_id, counts, _ in sorted(objects, key=lambda item: -item[2]):
        for begin, end in rle.decode_runs(counts, size).tolist():
            columns[begin:end] = object_id
    return np.ascontiguousarray(columns.reshape(size.width, size.height).T)


def to_crops(labels: Labels) -> list[Crop]:
    """Return the objects' masks by ascending id. Ids that do not occur are skipped."""
    return [crop_label(labels, label, rows, columns) for label, rows, columns in find_windows(labels)]


def find_windows(labels: Labels) -> list[tuple[int, slice, slice]]:
    """Return (id, rows, columns) of the box around each object, by ascending id."""
    ids = np.unique(np.append(labels, 0))
    # `find_objects` takes memory for every id up to the largest: renumber where that could be many.
    renumbered = labels if ids[-1] < labels.size else np.searchsorted(ids, labels)
    numbers = ids.tolist() if renumbered is not labels else range(int(ids[-1]) + 1)
    found = enumerate(ndimage.find_objects(renumbered), 1)
    return [(numbers[index], window[0], window[1]) for index, window in found if window is not None]


def crop_label(labels: Labels, label: int, rows: slice, columns: slice) -> Crop:
    """Return the mask of one object, whose box is known."""
    return Crop(labels[rows, columns] == label, columns.start, rows.start, Size(*labels.shape))


def encode_png(labels: Labels) -> bytes:
    """Encode as a greyscale PNG: 8-bit for a uint8 map, 16-bit for any other.

    Raises TooLarge for ids that do not fit 16 bits.
    """
    if labels.size and labels.max() > MAX_UINT16_ID:
        raise TooLarge(
            f"There are ids up to {labels.max()}, and a PNG holds {MAX_UINT16_ID}.",
            field="format",
            remedy="Ask for format 'tiff' or 'npy'.",
        )
    values = np.ascontiguousarray(labels if labels.dtype == np.uint8 else labels.astype(np.uint16))
    # Rows resemble the rows above them. The other PNG filters cost far more time than they save bytes.
    return bytes(imagecodecs.png_encode(values, level=1, filter=imagecodecs.PNG.FILTER.UP))


def encode_tiff(labels: Labels) -> bytes:
    """Encode as a zlib-compressed TIFF of the map's own dtype."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, compression="zlib", predictor=True, photometric="minisblack")
    return buffer.getvalue()


def encode_npy(values: NDArray[Any]) -> bytes:
    """Encode any array as a NumPy .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def make_colour_table(ids: Iterable[int]) -> UInt8:
    """Return RGB colours [n + 1, 3]: black for the background, then the colour of each id, always the same one."""
    colours = [(0.0, 0.0, 0.0)]
    for object_id in ids:
        index = object_id - 1
        colours.append(colorsys.hsv_to_rgb(index * HUE_STEP % 1.0, 0.75, 0.6 + 0.4 * (index % 3) / 2))
    table: UInt8 = np.rint(np.array(colours) * 255).astype(np.uint8)
    return table


def find_outlines(labels: Labels, width: int = 1) -> NDArray[np.bool_]:
    """Return [H, W]: the objects' pixels with another value less than `width` pixels above, below or beside them."""
    outlines = _find_borders(labels)
    for _ in range(1, width):
        outlines |= _find_borders(np.where(outlines, 0, labels))
    return outlines


def _find_borders(labels: Labels) -> NDArray[np.bool_]:
    """Return [H, W]: the objects' pixels with another value directly above, below or beside them."""
    edge = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (labels > 0)


def draw_overlay(image: UInt8, labels: Labels, table: UInt8 | None = None, width: int = 1) -> UInt8:
    """Return the image [H, W, 3] with every object filled faintly and outlined in its colour.

    table: colours by the map's values, from `make_colour_table`; None: each value is its own id.
    width: of the outlines, in pixels.
    """
    if table is None:
        table = make_colour_table(range(1, int(labels.max(initial=0)) + 1))
    result = image.copy()
    dimmed, tints = np.arange(256) * np.float32(1 - FILL_OPACITY), table * np.float32(FILL_OPACITY)
    for top in range(0, len(labels), STRIP_ROWS):
        ids, strip = labels[top : top + STRIP_ROWS], result[top : top + STRIP_ROWS]
        inside = ids > 0
        strip[inside] = (dimmed[strip[inside]] + tints[ids[inside]]).astype(np.uint8)
    outlines = find_outlines(labels, width)
    result[outlines] = table[labels[outlines]]
    return result


def encode_overlay(image: UInt8, labels: Labels) -> bytes:
    """Encode `draw_overlay` as a PNG."""
    return bytes(imagecodecs.png_encode(draw_overlay(image, labels), level=1))
