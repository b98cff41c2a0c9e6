"""A small picture of a stored image, as REST answers it."""

import asyncio

from segserve.app import Service
from segserve.images.encode_picture import PictureFormat
from segserve.images.preview import encode_preview
from segserve.types import DEFAULT_TENANT


async def render_preview(
    service: Service, image_id: str, max_side_px: int, picture_format: PictureFormat
) -> bytes:
    """Encode the image as models see it. A large one is read from the level of its tiles that is large enough.

    Raises ImageNotFound, TooLarge, Busy.
    """
    image = await service.images.read_pixels(DEFAULT_TENANT, image_id, min_side=max_side_px)
    return await asyncio.to_thread(encode_preview, image, max_side_px, picture_format)
