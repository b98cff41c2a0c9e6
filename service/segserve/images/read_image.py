"""Decode the bytes of an image file to the RGB pixels that models see."""

from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.formats import TIFF, detect_image_format
from segserve.images.image_source import ImageSource, NeedsSandbox
from segserve.images.normalise import to_uint8
from segserve.images.orientation import apply_orientation
from segserve.images.raster.reader import open_raster
from segserve.images.stains import convert_colours
from segserve.images.tiff.reader import open_tiff
from segserve.types import ReadOptions, UInt8


def read_image(source: bytes | BinaryIO, options: ReadOptions, max_pixels: int) -> UInt8:
    """Decode an image file to RGB [H, W, 3] uint8.

    source: PNG, JPEG, WebP, BMP or TIFF, as bytes or a seekable file.

    The orientation that EXIF or TIFF states is applied. Palettes and CMYK become RGB first, so `options.channels`
    counts the channels of the RGB image. Without `options.channels` the alpha channel is dropped, not blended, as the
    usual `convert("RGB")` before SAM does, and of more than three channels the first three are taken. One channel is
    repeated to three; two become the mean of both. For values that are not 8-bit, and for `options.normalise`, see
    `normalise.to_uint8`; for `options.stain`, `stains.separate_stain`.

    Raises BadInput (field "file", "page", "channels" or "stain"); TooLarge before any pixel is decoded if there are
    more than `max_pixels`; UnsupportedFormat for other formats, NeedsSandbox for those that are read in a sandboxed
    process only.
    """
    stream = BytesIO(source) if isinstance(source, bytes) else source
    return decode_source(open_image(stream, options.page, max_pixels, max_pixels), options)


def decode_source(source: ImageSource, options: ReadOptions) -> UInt8:
    """Decode an opened image as `read_image` does."""
    pixels = source.read()
    selected = select_channels(pixels.values, pixels.has_alpha, options.channels)
    converted = to_uint8(selected, options.normalise, pixels.no_data)
    coloured = convert_colours(average_two_channels(converted), options)
    return apply_orientation(to_rgb(coloured), pixels.orientation)


def open_image(stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int) -> ImageSource:
    """Read and check the header of an image file whose decoding is bounded by these checks.

    `open_any_image.open_any_image` opens all formats, and runs in a sandboxed process only.

    max_pixels: limit for an image that can only be read at once.
    max_banded_pixels: limit for an image that can be read in bands.

    Raises as `read_image` does.
    """
    image_format = detect_image_format(stream)
    if image_format.sandboxed:
        raise NeedsSandbox(image_format.name)
    stream.seek(0)
    if image_format is TIFF:
        return open_tiff(stream, page, max_pixels, max_banded_pixels)
    return open_raster(image_format.name, stream, page, max_pixels, max_banded_pixels)


def select_channels(values: NDArray[Any], has_alpha: bool, channels: tuple[int, ...] | None) -> NDArray[Any]:
    """Return the requested `channels` [H, W, 1 to 3] of `values` [H, W, C].

    channels: numbers from 0, in order; None: the first three without alpha. Raises BadInput.
    """
    available = values.shape[2]
    if channels is None:
        return values[:, :, : min(3, available - has_alpha)]
    if not 1 <= len(channels) <= 3 or not all(0 <= channel < available for channel in channels):
        raise BadInput(
            f"There are no channels {list(channels)} in an image of {available}.",
            remedy=f"Give one to three numbers from 0 to {available - 1}.",
            field="channels",
        )
    return values[:, :, list(channels)]


def average_two_channels(channels: UInt8) -> UInt8:
    """Return [H, W, 1 or 3] of [H, W, 1 to 3]: two channels become their mean."""
    if channels.shape[2] != 2:
        return channels
    total = channels[:, :, :1].astype(np.uint16) + channels[:, :, 1:]
    return ((total + 1) >> 1).astype(np.uint8)


def to_rgb(channels: UInt8) -> UInt8:
    """Return RGB [H, W, 3] of [H, W, 1 to 3]: one channel is repeated, two become their mean."""
    averaged = average_two_channels(channels)
    return averaged if averaged.shape[2] == 3 else np.repeat(averaged, 3, axis=2)
