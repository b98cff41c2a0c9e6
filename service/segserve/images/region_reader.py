"""The pixels of stored images, whole or a part, from wherever they are quickest read."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from math import ceil
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import numpy as np

from segserve.errors import BadInput, TooLarge
from segserve.images import tile_pyramid
from segserve.images.orientation import apply_orientation, to_stored_region
from segserve.images.read_image import read_image, to_rgb
from segserve.store.image_store import ImageStore
from segserve.types import ImageRecord, Region, Size, TilePyramid, UInt8

SPOOL_BYTES = 64 << 20  # files beyond it are read from disk
MAX_CONCURRENT_FETCHES = 8  # tiles fetched at once
FULL_RESOLUTION = 0  # as `min_side`: every pixel


class RegionReader:
    """workers: the threads that read."""

    def __init__(self, store: ImageStore, workers: Executor, max_pixels: int) -> None:
        self._store, self._workers, self._max_pixels = store, workers, max_pixels

    async def read(
        self, tenant: str, record: ImageRecord, region: Region | None = None, min_side: int = FULL_RESOLUTION
    ) -> UInt8:
        """The image or a region of it, [h, w, 3] RGB. A large one may come reduced, while its longer side is no
        less than `min_side` pixels. Raises ImageNotFound, BadInput for a region that is not on the image,
        TooLarge."""
        wanted = region or Region(0, 0, record.size.width, record.size.height)
        if not wanted.lies_in(record.size):
            raise BadInput(
                f"{wanted} does not lie on an image of {record.size.width} x {record.size.height}.",
                field="region",
                remedy="Name a region of the image.",
            )
        if record.tiles is None:
            whole = await self._read(tenant, record)
            return whole[wanted.y : wanted.y + wanted.height, wanted.x : wanted.x + wanted.width]
        return await self._assemble(tenant, record, record.tiles, wanted, min_side)

    async def _read(self, tenant: str, record: ImageRecord) -> UInt8:
        loop = asyncio.get_running_loop()
        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await self._store.download(tenant, record.image_id, file)
            return await loop.run_in_executor(
                self._workers, read_image, file, record.options, self._max_pixels
            )

    async def _assemble(
        self, tenant: str, record: ImageRecord, tiles: TilePyramid, region: Region, min_side: int
    ) -> UInt8:
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(MAX_CONCURRENT_FETCHES)
        level, size = choose_level(tiles, max(region.width, region.height), min_side)
        part = region_at_level(to_stored_region(region, record.size, tiles.orientation), level)
        if part.width * part.height > self._max_pixels:
            raise TooLarge(
                f"{part.width} x {part.height} pixels of the image at once are too many.",
                field="image_id",
                remedy=f"Up to {self._max_pixels} are read.",
            )
        result = np.empty((part.height, part.width, tiles.channels), np.uint8)

        async def place(row: int, column: int) -> None:
            async with places:
                data = await self._store.read_tile(tenant, record.image_id, tiles.folder, level, row, column)
                await loop.run_in_executor(
                    self._workers, make_tile_paster(result, part, size, row, column), data
                )

        columns = tiles_along(part.x, part.width)
        await asyncio.gather(
            *(place(row, column) for row in tiles_along(part.y, part.height) for column in columns)
        )
        return await loop.run_in_executor(
            self._workers, lambda: to_rgb(apply_orientation(result, tiles.orientation))
        )


def choose_level(tiles: TilePyramid, longest: int, min_side: int) -> tuple[int, Size]:
    """The smallest level that still has `min_side` pixels where the image has `longest`, and its size."""
    level, size = 0, tiles.size
    while min_side and level + 1 < tiles.levels and longest / (2 << level) >= min_side:
        level, size = level + 1, tile_pyramid.half_size(size)
    return level, size


def region_at_level(region: Region, level: int) -> Region:
    """All pixels of a level that show any of the region."""
    x0, y0 = region.x >> level, region.y >> level
    x1, y1 = ceil((region.x + region.width) / (1 << level)), ceil((region.y + region.height) / (1 << level))
    return Region(x0, y0, x1 - x0, y1 - y0)


def tiles_along(start: int, length: int) -> range:
    """Numbers of the tiles, along one side, that hold pixels of a part."""
    return range(start // tile_pyramid.TILE_SIDE_PX, (start + length - 1) // tile_pyramid.TILE_SIDE_PX + 1)


def make_tile_paster(into: UInt8, part: Region, size: Size, row: int, column: int) -> Callable[[bytes], None]:
    """Decodes a tile and copies what lies in `part`, of a level of this size, into its pixels."""

    def work(data: bytes) -> None:
        left, top = column * tile_pyramid.TILE_SIDE_PX, row * tile_pyramid.TILE_SIDE_PX
        height, width = (
            min(tile_pyramid.TILE_SIDE_PX, size.height - top),
            min(tile_pyramid.TILE_SIDE_PX, size.width - left),
        )
        tile = tile_pyramid.decode_tile(data, height, width, into.shape[2])
        y0, y1 = max(top, part.y), min(top + height, part.y + part.height)
        x0, x1 = max(left, part.x), min(left + width, part.x + part.width)
        into[y0 - part.y : y1 - part.y, x0 - part.x : x1 - part.x] = tile[
            y0 - top : y1 - top, x0 - left : x1 - left
        ]

    return work
