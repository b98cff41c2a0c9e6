"""A small picture of a stored image, as REST answers it."""

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.images.encode_picture import PictureFormat
from segserve.images.preview import encode_preview, estimate_preview_bytes
from segserve.types import UInt8


async def render_preview(
    service: Service, image_id: str, max_side_px: int, picture_format: PictureFormat
) -> bytes:
    """Encode the image as models see it. A large one is read from the level of its tiles that is large enough.

    Raises ImageNotFound, TooLarge, Busy.
    """

    def encode(image: UInt8) -> bytes:
        return encode_preview(image, max_side_px, picture_format)

    return await service.images.convert_pixels(
        current_tenant(),
        image_id,
        encode,
        lambda size: estimate_preview_bytes(size, max_side_px),
        min_side=max_side_px,
    )
