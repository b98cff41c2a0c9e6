"""Large images: the objects of overlapping tiles become the objects of the whole image, each with one id.

Every tile is segmented with its halo, so two neighbours both see what lies around the seam between their inner parts.
An object of one tile and an object of the other are the same if they mostly agree there: if their IoU, within half a
halo of the seam, is above a half. At most one object of the other tile can reach that. Of each tile the inner part is
kept.

micro-sam stitches masks first come, first served, and runs the watershed of AIS over the assembled image. The way here
needs neither the whole image nor all tiles at once.

Memory holds the seams of one row of tiles, and the objects, each cropped to its bounding box.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import Busy, TooManyTiles
from segserve.images.tiling import Tile, TileGrid
from segserve.masks import crop as crops
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.types import Crop, Region, SegmentedObject, Size

MIN_SEAM_IOU = 0.5  # objects of two tiles whose IoU at the seam exceeds this are one
REFERENCE_INPUT_PX = 1024  # SEGSERVE_AUTOMATIC_TILES counts tiles of SAM's input
BUSY_RETRY_S = 0.5  # wait before the next try when the executor is full


def check_tile_count(tiles: TileGrid, max_tiles: int | None, input_size: int) -> None:
    """Raise TooManyTiles if there are too many tiles for one request.

    max_tiles: for a model with an input of REFERENCE_INPUT_PX; one with a smaller input may have as many more as they
    cost less. None is no limit.
    """
    if max_tiles is None:
        return
    limit = int(max_tiles * max(1, REFERENCE_INPUT_PX / input_size) ** 2)
    if len(tiles) > limit:
        raise TooManyTiles(
            f"The image has {len(tiles)} tiles for this model, and up to {limit} are segmented in one request.",
            field="image_id",
            remedy="Submit a batch job for it, send parts of the image, or ask the operator to raise"
            " SEGSERVE_AUTOMATIC_TILES.",
        )


async def segment_tiles(
    tiles: TileGrid, segment: Callable[[Region], Awaitable[list[SegmentedObject]]], executor: BoundedExecutor
) -> list[SegmentedObject]:
    """Segment all tiles and return the objects of the image.

    segment: returns the objects of a region, in pixels of the region.

    Raises what `segment` raises. Raises Busy from the first tile only; later tiles wait until the executor has room.
    """
    stitcher = Stitcher(tiles)
    for index, tile in enumerate(tiles):
        while True:
            try:
                await executor.run(stitcher.add, tile, await segment(tile.outer))
                break
            except Busy:
                if index == 0:
                    raise
                await asyncio.sleep(BUSY_RETRY_S)
    return await asyncio.to_thread(stitcher.objects)


@dataclass(frozen=True)
class ObjectPart:
    """The part of an object in the inner part of one tile.

    number: of the object, counted through all tiles.
    crop: in pixels of the image.
    source: the whole object as its tile has it.
    """

    number: int
    crop: Crop
    source: SegmentedObject


@dataclass(frozen=True)
class TileLabels:
    """The label map of one tile, or a part of it.

    region: on the image.
    ids: [h, w]; 0 is background.
    first: the number of the object with id 1, counted through all tiles.
    """

    region: Region
    ids: Labels
    first: int

    def cut(self, region: Region) -> "TileLabels":
        """Return the part that lies in `region`, as a view."""
        x0, y0 = max(self.region.x, region.x), max(self.region.y, region.y)
        x1 = min(self.region.x + self.region.width, region.x + region.width)
        y1 = min(self.region.y + self.region.height, region.y + region.height)
        x, y = x0 - self.region.x, y0 - self.region.y
        ids = self.ids[y : y + y1 - y0, x : x + x1 - x0]
        return TileLabels(Region(x0, y0, x1 - x0, y1 - y0), ids, self.first)

    def copy(self) -> "TileLabels":
        """Return a copy that does not keep the memory of the whole tile."""
        return TileLabels(self.region, self.ids.copy(), self.first)


class Stitcher:
    """`Stitcher` takes the objects of the tiles, in the grid's order, and joins those that are the same."""

    def __init__(self, tiles: TileGrid) -> None:
        self._tiles = tiles
        self._parts: list[ObjectPart] = []
        # Union-find: for every object a lower number of the same object, or its own number.
        self._parents: list[int] = []
        self._left: TileLabels | None = None  # the seam to the tile on the left
        self._above: dict[int, TileLabels] = {}  # by column, the seam to the tile above

    def add(self, tile: Tile, objects: list[SegmentedObject]) -> None:
        """Add the objects of the next tile, in pixels of its outer part. Where two overlap, the smaller one counts."""
        first = len(self._parents)
        self._parents.extend(range(first, first + len(objects)))
        ids = label_map.from_crops([each.crop for each in objects], tile.outer.size)
        labels = TileLabels(tile.outer, ids, first)
        inner, half = tile.inner, max(1, self._tiles.halo // 2)
        if tile.column > 0 and self._left is not None:
            self._join(self._left, labels)
        if tile.row > 0:
            self._join(self._above[tile.column], labels)
        right, bottom = inner.x + inner.width, inner.y + inner.height
        self._left = labels.cut(Region(right - half, tile.outer.y, 2 * half, tile.outer.height)).copy()
        self._above[tile.column] = labels.cut(
            Region(tile.outer.x, bottom - half, tile.outer.width, 2 * half)
        ).copy()
        for number, crop in find_parts(labels.cut(inner), self._tiles.size):
            self._parts.append(ObjectPart(number, crop, objects[number - first]))

    def _join(self, one: TileLabels, other: TileLabels) -> None:
        """Join the objects of two tiles that are the same where both tiles have labels."""
        a, b = one.cut(other.region), other.cut(one.region)
        both = (a.ids > 0) & (b.ids > 0)
        pairs = np.stack([a.ids[both], b.ids[both]]).astype(np.int64)
        (ids_a, ids_b), intersections = np.unique(pairs, axis=1, return_counts=True)
        areas_a, areas_b = np.bincount(a.ids.ravel()), np.bincount(b.ids.ravel())
        for i, j, count in zip(ids_a.tolist(), ids_b.tolist(), intersections.tolist(), strict=True):
            if count > MIN_SEAM_IOU * (areas_a[i] + areas_b[j] - count):
                x, y = self._find_root(a.first + i - 1), self._find_root(b.first + j - 1)
                self._parents[max(x, y)] = min(x, y)

    def _find_root(self, number: int) -> int:
        """Return the lowest number of the same object."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def objects(self) -> list[SegmentedObject]:
        """Return the objects of the image, in pixels of the image, in the order of their first parts."""
        parts_by_object: dict[int, list[ObjectPart]] = {}
        for part in self._parts:
            parts_by_object.setdefault(self._find_root(part.number), []).append(part)
        return [merge_parts(parts) for parts in parts_by_object.values()]


def find_parts(labels: TileLabels, size: Size) -> list[tuple[int, Crop]]:
    """Return the number and the crop of every object in the labels, in pixels of an image of `size`."""
    return [
        (
            labels.first + index,
            Crop(
                labels.ids[box] == index + 1,
                labels.region.x + box[1].start,
                labels.region.y + box[0].start,
                size,
            ),
        )
        for index, box in enumerate(ndimage.find_objects(labels.ids))
        if box is not None
    ]


def merge_parts(parts: list[ObjectPart]) -> SegmentedObject:
    """Return the object of these parts, with the score and the category of the largest part."""
    largest = max(parts, key=lambda part: crops.area(part.crop))
    return replace(largest.source, crop=unite_crops([part.crop for part in parts]))


def unite_crops(masks: list[Crop]) -> Crop:
    """Return the union of masks of one image."""
    if len(masks) == 1:
        return masks[0]
    x0, y0 = min(mask.x for mask in masks), min(mask.y for mask in masks)
    x1 = max(mask.x + mask.pixels.shape[1] for mask in masks)
    y1 = max(mask.y + mask.pixels.shape[0] for mask in masks)
    pixels = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for mask in masks:
        height, width = mask.pixels.shape
        pixels[mask.y - y0 : mask.y - y0 + height, mask.x - x0 : mask.x - x0 + width] |= mask.pixels
    return Crop(pixels, x0, y0, masks[0].size)
