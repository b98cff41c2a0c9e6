"""A tile of a stored image, as viewers ask for it."""

import asyncio

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.images.encode_picture import PictureFormat, encode_picture
from segserve.types import ImageRecord


async def render_tile(
    service: Service, record: ImageRecord, level: int, column: int, row: int, picture_format: PictureFormat
) -> bytes:
    """Encode a tile of the image as models see it. Raises TileNotFound, ImageNotFound, TooLarge, Busy."""
    pixels = await service.tiles.read(current_tenant(), record, level, column, row)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.tile_pool, encode_picture, pixels, picture_format)
