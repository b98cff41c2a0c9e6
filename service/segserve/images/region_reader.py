"""Read the pixels of a stored image, or of a region of it, from the file or from the tile pyramid."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from math import ceil
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, TypeVar, cast

import numpy as np

from segserve.errors import BadInput, TooLarge
from segserve.images import tile_pyramid
from segserve.images.memory_estimate import RGB_BYTES, estimate_read_bytes
from segserve.images.orientation import apply_orientation, oriented_size, to_stored_region
from segserve.images.read_image import decode_source, open_image, to_rgb
from segserve.memory_budget import MemoryBudget
from segserve.store.image_store import ImageStore
from segserve.types import ImageRecord, ReadOptions, Region, Size, TilePyramid, UInt8

# Larger image files are kept on disk instead of in memory while they wait and are decoded.
SPOOL_BYTES = 4 << 20
# Tiles downloaded and decoded at the same time for one region.
MAX_CONCURRENT_FETCHES = 8
# `min_side` that forbids any reduction.
FULL_RESOLUTION = 0

T = TypeVar("T")


def keep_pixels(pixels: UInt8) -> UInt8:
    return pixels


def no_bytes(size: Size) -> int:
    return 0


class RegionReader:
    """`RegionReader` reads stored images as RGB pixels.

    executor: threads that decode.
    memory: what decoding may take in this process. The pixels returned are no longer counted.
    max_pixels: limit for the pixels returned at once.
    """

    def __init__(self, store: ImageStore, executor: Executor, memory: MemoryBudget, max_pixels: int) -> None:
        self._store, self._executor, self._memory, self._max_pixels = store, executor, memory, max_pixels

    async def read(
        self, tenant: str, record: ImageRecord, region: Region | None = None, min_side: int = FULL_RESOLUTION
    ) -> UInt8:
        """Return RGB [h, w, 3] of the image or of a region of it.

        min_side: a large image may be returned reduced as long as the region's longer side keeps this many pixels.

        Raises ImageNotFound; BadInput for a region that is not on the image; TooLarge; Busy.
        """
        return await self.convert(tenant, record, keep_pixels, region, min_side)

    async def convert(
        self,
        tenant: str,
        record: ImageRecord,
        function: Callable[[UInt8], T],
        region: Region | None = None,
        min_side: int = FULL_RESOLUTION,
        extra_bytes: Callable[[Size], int] = no_bytes,
    ) -> T:
        """Return what a function makes of the pixels that `read` returns, in a thread that decodes.

        Until it has returned, the pixels count as memory, and so does what it takes beside them.

        extra_bytes: what it takes beside pixels of a size. Raises as `read` does.
        """
        requested = region or Region(0, 0, record.size.width, record.size.height)
        if not requested.lies_in(record.size):
            raise BadInput(
                f"{requested} does not lie on an image of {record.size.width} x {record.size.height}.",
                field="region",
                remedy="Name a region of the image.",
            )
        if record.tiles is not None:
            return await self._read_tiles(
                tenant, record, record.tiles, requested, min_side, function, extra_bytes
            )

        def cut_and_convert(image: UInt8) -> T:
            rows, columns = requested.y + requested.height, requested.x + requested.width
            return function(image[requested.y : rows, requested.x : columns])

        with SpooledTemporaryFile(SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            await self._store.download(tenant, record.image_id, file)
            extra = extra_bytes(Size(requested.height, requested.width))
            return await self._decode(file, record.options, cut_and_convert, extra)

    async def decode(self, file: BinaryIO, options: ReadOptions) -> UInt8:
        """Return an image file's pixels as `read_image` does. Raises what it raises, and Busy."""
        return await self._decode(file, options, keep_pixels, 0)

    async def _decode(
        self, file: BinaryIO, options: ReadOptions, function: Callable[[UInt8], T], extra_bytes: int
    ) -> T:
        loop, limit = asyncio.get_running_loop(), self._max_pixels
        source = await loop.run_in_executor(self._executor, open_image, file, options.page, limit, limit)
        result_bytes = source.size.height * source.size.width * RGB_BYTES
        needed_bytes = max(estimate_read_bytes(source, options), result_bytes + extra_bytes)
        return await self._memory.run(
            needed_bytes, self._executor, lambda: function(decode_source(source, options))
        )

    async def _read_tiles(
        self,
        tenant: str,
        record: ImageRecord,
        tiles: TilePyramid,
        region: Region,
        min_side: int,
        function: Callable[[UInt8], T],
        extra_bytes: Callable[[Size], int],
    ) -> T:
        level, level_size = choose_level(tiles, max(region.width, region.height), min_side)
        part = region_at_level(to_stored_region(region, record.size, tiles.orientation), level)
        if part.width * part.height > self._max_pixels:
            raise TooLarge(
                f"{part.width} x {part.height} pixels of the image at once are too many.",
                field="image_id",
                remedy=f"Up to {self._max_pixels} are read.",
            )
        extra = extra_bytes(Size(part.height, part.width))
        return await self._read_level(tenant, record, tiles, part, level, level_size, function, extra)

    async def read_level(self, tenant: str, record: ImageRecord, halvings: int, region: Region) -> UInt8:
        """Return RGB [h, w, 3] of a region of an image that is halved so often.

        halvings: 0 is the image itself; of an image in tiles, up to the last level that is stored; of another one 0.
        region: in pixels of the halved image.

        Raises ImageNotFound, TooLarge, Busy.
        """
        if (tiles := record.tiles) is None:
            return await self.read(tenant, record, region)
        level_size = tiles.size
        for _ in range(halvings):
            level_size = tile_pyramid.half_size(level_size)
        part = to_stored_region(region, oriented_size(level_size, tiles.orientation), tiles.orientation)
        return await self._read_level(tenant, record, tiles, part, halvings, level_size, keep_pixels, 0)

    async def _read_level(
        self,
        tenant: str,
        record: ImageRecord,
        tiles: TilePyramid,
        part: Region,
        level: int,
        level_size: Size,
        function: Callable[[UInt8], T],
        extra_bytes: int,
    ) -> T:
        # The pixels as stored, a copy that is turned, and one in RGB.
        reading = part.width * part.height * (2 * tiles.channels + RGB_BYTES)
        # The pixels as stored may be those that the function gets.
        converting = part.width * part.height * (tiles.channels + RGB_BYTES) + extra_bytes
        async with self._memory.hold(max(reading, converting), "image_id"):
            return await self._fetch_level(tenant, record, tiles, part, level, level_size, function)

    async def _fetch_level(
        self,
        tenant: str,
        record: ImageRecord,
        tiles: TilePyramid,
        part: Region,
        level: int,
        level_size: Size,
        function: Callable[[UInt8], T],
    ) -> T:
        loop, fetch_slots = asyncio.get_running_loop(), asyncio.Semaphore(MAX_CONCURRENT_FETCHES)
        pixels = np.empty((part.height, part.width, tiles.channels), np.uint8)

        async def fetch(row: int, column: int) -> None:
            async with fetch_slots:
                data = await self._store.read_tile(tenant, record.image_id, tiles.folder, level, row, column)
                await loop.run_in_executor(
                    self._executor, paste_tile, data, row, column, level_size, pixels, part
                )

        columns = tile_indices(part.x, part.width)
        await asyncio.gather(
            *(fetch(row, column) for row in tile_indices(part.y, part.height) for column in columns)
        )
        return await loop.run_in_executor(
            self._executor, lambda: function(to_rgb(apply_orientation(pixels, tiles.orientation)))
        )


def choose_level(tiles: TilePyramid, longer_side: int, min_side: int) -> tuple[int, Size]:
    """Return the most reduced level, and its size, in which `longer_side` pixels are still at least `min_side`."""
    level, size = 0, tiles.size
    while min_side and level + 1 < tiles.levels and longer_side / (2 << level) >= min_side:
        level, size = level + 1, tile_pyramid.half_size(size)
    return level, size


def region_at_level(region: Region, level: int) -> Region:
    """Return all pixels of a level that show any pixel of `region`, which is in pixels of level 0."""
    x0, y0 = region.x >> level, region.y >> level
    x1, y1 = ceil((region.x + region.width) / (1 << level)), ceil((region.y + region.height) / (1 << level))
    return Region(x0, y0, x1 - x0, y1 - y0)


def tile_indices(start: int, length: int) -> range:
    """Return the rows, or the columns, of the tiles that hold the pixels from `start` on."""
    return range(start // tile_pyramid.TILE_SIDE_PX, (start + length - 1) // tile_pyramid.TILE_SIDE_PX + 1)


def paste_tile(data: bytes, row: int, column: int, level_size: Size, into: UInt8, part: Region) -> None:
    """Decode a tile and copy its pixels that lie in `part` of the level.

    level_size: of the whole level. into: the pixels [h, w, C] of `part`.
    """
    side = tile_pyramid.TILE_SIDE_PX
    left, top = column * side, row * side
    height, width = min(side, level_size.height - top), min(side, level_size.width - left)
    tile = tile_pyramid.decode_tile(data, height, width, into.shape[2])
    y0, y1 = max(top, part.y), min(top + height, part.y + part.height)
    x0, x1 = max(left, part.x), min(left + width, part.x + part.width)
    into[y0 - part.y : y1 - part.y, x0 - part.x : x1 - part.x] = tile[
        y0 - top : y1 - top, x0 - left : x1 - left
    ]
