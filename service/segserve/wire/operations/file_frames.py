"""A frame or slice of a stored file, as a picture to look at and as an image to click on."""

from collections.abc import Callable
from typing import BinaryIO, TypeVar

from segserve.app import Service
from segserve.files.file_view import FileView, check_window
from segserve.identity.identity import current_tenant
from segserve.images.encode_picture import PictureFormat, encode_picture, estimate_encoding_bytes
from segserve.images.preview import encode_preview, estimate_preview_bytes
from segserve.types import FileRecord, Size, UInt8

T = TypeVar("T")


async def convert_frame(
    service: Service,
    record: FileRecord,
    view: FileView,
    frame: int,
    function: Callable[[UInt8], T],
    extra_bytes: Callable[[Size], int],
) -> T:
    """Return what a function makes of a frame as jobs see it, RGB [H, W, 3], in the thread that reads it.

    extra_bytes: what the function takes beside a frame of a size.

    Raises FileNotFound, BadInput, TooLarge, MissingDependency, Busy, Unavailable.
    """
    check_window(record, view.window, "window")
    return await service.frames.convert(current_tenant(), record, view, frame, function, extra_bytes)


async def render_frame(
    service: Service,
    record: FileRecord,
    view: FileView,
    frame: int,
    max_side_px: int | None,
    picture_format: PictureFormat,
) -> bytes:
    """Encode a frame, reduced where it has a longer side than `max_side_px`. Raises as `convert_frame`."""

    def encode(pixels: UInt8) -> bytes:
        return encode_preview(pixels, max_side_px or max(pixels.shape), picture_format)

    def estimate(size: Size) -> int:
        return estimate_preview_bytes(size, max_side_px or max(size.height, size.width))

    return await convert_frame(service, record, view, frame, encode, estimate)


async def write_frame(service: Service, view: FileView, frame: int, out: BinaryIO) -> None:
    """Write a frame to `out` as PNG, which is then an image like any other. Raises as `convert_frame`."""
    record = await service.files.get_record(current_tenant(), view.file_id)

    def write(pixels: UInt8) -> None:
        out.write(encode_picture(pixels, "png"))

    await convert_frame(service, record, view, frame, write, estimate_encoding_bytes)
