"""Objects found tile by tile as the objects of the whole image, each with one id.

Every tile is segmented with its halo, so that two neighbours have both looked at what lies around the seam between
their inner parts. An object of one and an object of the other are the same where they mostly agree there: where their
intersection over union, within half a halo of the seam, is above a half, which at most one object of the other can
reach. What is kept of each tile is its inner part. (micro-sam stitches tiles of masks first come, first served, and
runs AIS's watershed over the assembled image; this needs neither the image nor all tiles at once.)

Held meanwhile: the seams of one row of tiles, and the objects, each as its bounding box.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from segserve.bounded_executor import BoundedExecutor
from segserve.errors import Busy, TooManyTiles
from segserve.images.tiling import Tile, TileGrid, make_tile_grid
from segserve.masks import crop as crops
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.types import Crop, Region, SegmentedObject, Size

MIN_SEAM_IOU = 0.5  # intersection over union above which two objects are one
BUSY_RETRY_S = 0.5


def make_tiles(size: Size, input_size: int, most: int | None) -> TileGrid:
    """Raises TooManyTiles where there are more than `most`."""
    tiles = make_tile_grid(size, input_size)
    if most is not None and len(tiles) > most:
        raise TooManyTiles(
            f"The image has {len(tiles)} tiles for this model, and up to {most} are segmented in one request.",
            field="image_id",
            remedy="Submit a batch job for it, send parts of the image, or ask the operator to raise"
            " SEGSERVE_AUTOMATIC_TILES.",
        )
    return tiles


async def segment_tiles(
    tiles: TileGrid, segment: Callable[[Region], Awaitable[list[SegmentedObject]]], turns: BoundedExecutor
) -> list[SegmentedObject]:
    """The objects of the image. segment: those of a region, in its pixels. Raises what `segment` raises; Busy from
    the first tile alone: once begun, this waits for its turns."""
    stitcher = Stitcher(tiles)
    for number, tile in enumerate(tiles):
        while True:
            try:
                await turns.run(stitcher.add, tile, await segment(tile.outer))
                break
            except Busy:
                if number == 0:
                    raise
                await asyncio.sleep(BUSY_RETRY_S)
    return await asyncio.to_thread(stitcher.objects)


@dataclass(frozen=True)
class ObjectPart:
    """What one tile's inner part holds of an object. crop: in pixels of the image."""

    number: int
    crop: Crop
    of: SegmentedObject


@dataclass(frozen=True)
class TileLabels:
    """What a tile found in a region of the image: ids [h, w], 0 is background; id 1 has the number `first`."""

    region: Region
    ids: Labels
    first: int

    def within(self, region: Region) -> "TileLabels":
        """The part of it that lies in `region`."""
        x0, y0 = max(self.region.x, region.x), max(self.region.y, region.y)
        x1 = min(self.region.x + self.region.width, region.x + region.width)
        y1 = min(self.region.y + self.region.height, region.y + region.height)
        x, y = x0 - self.region.x, y0 - self.region.y
        ids = self.ids[y : y + y1 - y0, x : x + x1 - x0]
        return TileLabels(Region(x0, y0, x1 - x0, y1 - y0), ids, self.first)


class Stitcher:
    """Takes the tiles in the grid's order."""

    def __init__(self, tiles: TileGrid) -> None:
        self._tiles = tiles
        self._parts: list[ObjectPart] = []
        self._same: list[int] = []  # of every object a smaller number of the same object, or its own
        self._left: TileLabels | None = None
        self._above: dict[int, TileLabels] = {}

    def add(self, tile: Tile, found: list[SegmentedObject]) -> None:
        """found: in pixels of the tile's outer part; of those that overlap, the smaller one counts."""
        first = len(self._same)
        self._same.extend(range(first, first + len(found)))
        seen = TileLabels(
            tile.outer, label_map.from_crops([each.crop for each in found], tile.outer.size), first
        )
        inner, half = tile.inner, max(1, self._tiles.halo // 2)
        if tile.column > 0 and self._left is not None:
            self._join(self._left, seen)
        if tile.row > 0:
            self._join(self._above[tile.column], seen)
        right, bottom = inner.x + inner.width, inner.y + inner.height
        # Copies: views would keep all of the tile.
        self._left = copy_labels(seen.within(Region(right - half, tile.outer.y, 2 * half, tile.outer.height)))
        self._above[tile.column] = copy_labels(
            seen.within(Region(tile.outer.x, bottom - half, tile.outer.width, 2 * half))
        )
        for number, part in find_parts(seen.within(inner), self._tiles.size):
            self._parts.append(ObjectPart(number, part, found[number - first]))

    def _join(self, one: TileLabels, other: TileLabels) -> None:
        """Make one of the objects that are the same where both looked."""
        a, b = one.within(other.region), other.within(one.region)
        both = (a.ids > 0) & (b.ids > 0)
        pairs = np.stack([a.ids[both], b.ids[both]]).astype(np.int64)
        (left, right), shared = np.unique(pairs, axis=1, return_counts=True)
        areas_a, areas_b = np.bincount(a.ids.ravel()), np.bincount(b.ids.ravel())
        for i, j, count in zip(left.tolist(), right.tolist(), shared.tolist(), strict=True):
            if count > MIN_SEAM_IOU * (areas_a[i] + areas_b[j] - count):
                x, y = self._root(a.first + i - 1), self._root(b.first + j - 1)
                self._same[max(x, y)] = min(x, y)

    def _root(self, number: int) -> int:
        while self._same[number] != number:
            self._same[number] = self._same[self._same[number]]
            number = self._same[number]
        return number

    def objects(self) -> list[SegmentedObject]:
        """All that were found, in pixels of the image, in the order in which they were first met."""
        together: dict[int, list[ObjectPart]] = {}
        for part in self._parts:
            together.setdefault(self._root(part.number), []).append(part)
        return [merge_parts(parts) for parts in together.values()]


def copy_labels(seen: TileLabels) -> TileLabels:
    return TileLabels(seen.region, seen.ids.copy(), seen.first)


def find_parts(seen: TileLabels, size: Size) -> list[tuple[int, Crop]]:
    """Numbers and crops of what is seen, in pixels of an image of `size`."""
    return [
        (
            seen.first + index,
            Crop(
                seen.ids[where] == index + 1,
                seen.region.x + where[1].start,
                seen.region.y + where[0].start,
                size,
            ),
        )
        for index, where in enumerate(ndimage.find_objects(seen.ids))
        if where is not None
    ]


def merge_parts(parts: list[ObjectPart]) -> SegmentedObject:
    """The object of these parts, with the score and the category of the largest."""
    largest = max(parts, key=lambda part: crops.area(part.crop))
    return replace(largest.of, crop=unite_masks([part.crop for part in parts]))


def unite_masks(found: list[Crop]) -> Crop:
    """The union of masks of one image."""
    if len(found) == 1:
        return found[0]
    x0, y0 = min(each.x for each in found), min(each.y for each in found)
    x1 = max(each.x + each.pixels.shape[1] for each in found)
    y1 = max(each.y + each.pixels.shape[0] for each in found)
    pixels = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for each in found:
        height, width = each.pixels.shape
        pixels[each.y - y0 : each.y - y0 + height, each.x - x0 : each.x - x0 + width] |= each.pixels
    return Crop(pixels, x0, y0, found[0].size)
