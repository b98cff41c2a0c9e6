"""Read the tiles that viewers ask for (`deep_zoom.py`), from the stored pyramid or from the pixels of a small image."""

import asyncio
from concurrent.futures import Executor
from typing import NamedTuple, TypeAlias

from cachetools import LRUCache

from segserve.errors import TileNotFound
from segserve.images import deep_zoom, tile_pyramid
from segserve.images.encode_picture import is_grey
from segserve.images.region_reader import RegionReader
from segserve.images.tile_pyramid import halve_pixels
from segserve.metrics import Metrics
from segserve.types import ImageRecord, Region, Size, UInt8


class BlockKey(NamedTuple):
    """A block of a level of the stored pyramid, as large as a stored tile.

    halvings: which level. (column, row): where it is. Of the overview, the most reduced level and all that are
    smaller, they are None.
    """

    tenant: str
    image_id: str
    halvings: int
    column: int | None = None
    row: int | None = None


# The pixels [h, w, 1 or 3] of a block; of the overview, of each of its levels.
Block: TypeAlias = list[UInt8]


class TileReader:
    """`TileReader` returns tiles. What they are cut from stays decoded in memory, so that the next tile beside this one
    takes no reading. Use it from one thread, the event loop's.

    All tiles of an image have the colours that models see: its values became 8-bit when it was stored, all at once.

    executor: threads that halve pixels.
    max_bytes: of the decoded pixels that are kept; the least recently used are evicted.
    """

    def __init__(self, reader: RegionReader, executor: Executor, metrics: Metrics, max_bytes: int) -> None:
        self._reader, self._executor, self._metrics = reader, executor, metrics
        self._blocks: LRUCache[BlockKey, Block] = LRUCache(max_bytes, getsizeof=count_bytes)
        self._running: dict[BlockKey, asyncio.Task[Block]] = {}

    async def read(self, tenant: str, record: ImageRecord, level: int, column: int, row: int) -> UInt8:
        """Return the pixels [h, w, 1 or 3] of a tile; 1 where all that is near it is grey.

        Raises TileNotFound, ImageNotFound, TooLarge, Busy.
        """
        check_tile(record.size, level, column, row)
        halvings = deep_zoom.count_levels(record.size) - 1 - level
        part = deep_zoom.tile_region(deep_zoom.reduce_size(record.size, halvings), column, row)
        overview_halvings = 0 if record.tiles is None else record.tiles.levels - 1
        if halvings >= overview_halvings:
            key = BlockKey(tenant, record.image_id, overview_halvings)
            pixels = (await self._get_block(key, record))[halvings - overview_halvings]
            return cut(pixels, part)
        side = tile_pyramid.TILE_SIDE_PX
        key = BlockKey(tenant, record.image_id, halvings, part.x // side, part.y // side)
        [pixels] = await self._get_block(key, record)
        return cut(pixels, Region(part.x % side, part.y % side, part.width, part.height))

    async def _get_block(self, key: BlockKey, record: ImageRecord) -> Block:
        if (block := self._blocks.get(key)) is not None:
            return block
        if (task := self._running.get(key)) is None:
            # A task of its own: a viewer that moves on must not cancel what others wait for.
            task = self._running[key] = asyncio.create_task(self._load(key, record))
            task.add_done_callback(lambda done: self._remove_task(key, done))
        return await asyncio.shield(task)

    def _remove_task(self, key: BlockKey, task: asyncio.Task[Block]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # mark it as retrieved, because every waiter may be gone

    async def _load(self, key: BlockKey, record: ImageRecord) -> Block:
        size = deep_zoom.reduce_size(record.size, key.halvings)
        region = block_region(size, key.column, key.row)
        pixels = await self._reader.read_level(key.tenant, record, key.halvings, region)
        levels = deep_zoom.count_levels(size) if key.column is None else 1
        loop = asyncio.get_running_loop()
        block = await loop.run_in_executor(self._executor, build_levels, pixels, levels)
        if (
            key in self._running and count_bytes(block) <= self._blocks.maxsize
        ):  # the image was not deleted meanwhile
            self._blocks[key] = block
            self._report_size()
        return block

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop the pixels of an image."""
        for key in [key for key in self._running if key[:2] == (tenant, image_id)]:
            del self._running[key]
        for key in [key for key in self._blocks if key[:2] == (tenant, image_id)]:
            del self._blocks[key]
        self._report_size()

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which pixels are kept."""
        return {(key.tenant, key.image_id) for key in self._blocks}

    def _report_size(self) -> None:
        self._metrics.caches.set_size("tiles", len(self._blocks), int(self._blocks.currsize))


def check_tile(size: Size, level: int, column: int, row: int) -> None:
    """Raise TileNotFound where an image of this size has no such tile."""
    levels = deep_zoom.count_levels(size)
    if not 0 <= level < levels:
        raise TileNotFound(
            f"The image has no level {level}.",
            field="level",
            remedy=f"Levels are 0 to {levels - 1}, which is the image itself.",
        )
    tiles = deep_zoom.count_tiles(deep_zoom.reduce_size(size, levels - 1 - level))
    for field, number, count in (("x", column, tiles.width), ("y", row, tiles.height)):
        if not 0 <= number < count:
            raise TileNotFound(
                f"Level {level} has no tile {column}/{row}.",
                field=field,
                remedy=f"It has {tiles.width} x {tiles.height} tiles, numbered from 0.",
            )


def block_region(size: Size, column: int | None, row: int | None) -> Region:
    """Return what a block shows of a level of this size; without column and row all of it."""
    if column is None or row is None:
        return Region(0, 0, size.width, size.height)
    side = tile_pyramid.TILE_SIDE_PX
    x, y = column * side, row * side
    return Region(x, y, min(side, size.width - x), min(side, size.height - y))


def build_levels(pixels: UInt8, count: int) -> Block:
    """Return `count` levels, each half of the one before, of RGB [H, W, 3]. Grey pixels keep one channel."""
    if is_grey(pixels):
        pixels = pixels[..., :1].copy()
    levels = [pixels]
    while len(levels) < count:
        levels.append(halve_pixels(levels[-1]))
    return levels


def count_bytes(block: Block) -> int:
    return sum(pixels.nbytes for pixels in block)


def cut(pixels: UInt8, part: Region) -> UInt8:
    return pixels[part.y : part.y + part.height, part.x : part.x + part.width]
