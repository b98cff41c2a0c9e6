"""A frame or slice of a stored file, as a picture to look at and as an image to click on."""

import asyncio
from typing import BinaryIO

from segserve.app import Service
from segserve.files.file_view import FileView, check_window
from segserve.images.encode_picture import PictureFormat, encode_picture
from segserve.images.preview import encode_preview
from segserve.types import DEFAULT_TENANT, FileRecord, UInt8


async def read_frame(service: Service, record: FileRecord, view: FileView, frame: int) -> UInt8:
    """Return a frame as jobs see it, RGB [H, W, 3].

    Raises FileNotFound, BadInput, TooLarge, MissingDependency, Busy, Unavailable.
    """
    check_window(record, view.window, "window")
    return await service.frames.read(DEFAULT_TENANT, record, view, frame)


async def render_frame(
    service: Service,
    record: FileRecord,
    view: FileView,
    frame: int,
    max_side_px: int | None,
    picture_format: PictureFormat,
) -> bytes:
    """Encode a frame, reduced where it has a longer side than `max_side_px`. Raises as `read_frame`."""
    pixels = await read_frame(service, record, view, frame)
    max_side_px = max_side_px or max(pixels.shape)
    return await asyncio.to_thread(encode_preview, pixels, max_side_px, picture_format)


async def write_frame(service: Service, view: FileView, frame: int, out: BinaryIO) -> None:
    """Write a frame to `out` as PNG, which is then an image like any other. Raises as `read_frame`."""
    record = await service.files.get_record(DEFAULT_TENANT, view.file_id)
    pixels = await read_frame(service, record, view, frame)
    out.write(await asyncio.to_thread(encode_picture, pixels, "png"))
