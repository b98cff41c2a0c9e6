"""Read TIFF in bands: some rows of strips or tiles at a time, never the whole image in memory."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import RawPixels, damaged_file_error, wrap_codec_errors
from segserve.images.tiff.plane import JPEG, TiffPlane, check_jpeg_headers, join_planes

# Rows of a band; more where strips or tiles are higher.
BAND_ROWS = 256
_MAX_BAND_BYTES = 1 << 28
# TIFF's number for no compression.
_UNCOMPRESSED = 1


def can_read_in_bands(planes: list[TiffPlane]) -> bool:
    """Return whether a band of `planes`, the channels of one image, takes little memory.

    A strip of all rows, which some writers make, is read row by row if it is not compressed.
    """
    if all(is_raw(plane) for plane in planes):
        return True
    if min(planes[0].chunk) < 1 or len({(plane.chunk, plane.chunk_samples) for plane in planes}) > 1:
        return False
    return sum(measure_band(plane) for plane in planes) <= _MAX_BAND_BYTES


def read_bands(planes: list[TiffPlane]) -> Iterator[RawPixels]:
    """Yield the pixels as parts of [h, W, C], from top to bottom."""
    for plane in planes:
        if plane.page.compression == JPEG:
            check_jpeg_headers(plane)
    rows = max(count_band_rows(plane) for plane in planes)
    for top in range(0, planes[0].height, rows):
        height = min(rows, planes[0].height - top)
        yield join_planes(planes, [_read(plane, top, height) for plane in planes])


def is_raw(plane: TiffPlane) -> bool:
    """Return whether strips hold plain samples, so that any row can be read by its offset."""
    page = plane.page
    plain = page.compression == _UNCOMPRESSED and page.predictor == 1 and page.fillorder == 1
    return plain and not page.is_tiled and plane.sample_format.bits == 8 * plane.item_bytes


def count_band_rows(plane: TiffPlane) -> int:
    """Return the rows of a band: whole strips or tiles, unless samples are raw."""
    return BAND_ROWS if is_raw(plane) else math.ceil(BAND_ROWS / plane.chunk[0]) * plane.chunk[0]


def measure_band(plane: TiffPlane) -> int:
    """Return the size in bytes of the decoded strips or tiles of a band."""
    across = math.ceil(plane.width / plane.chunk[1]) * plane.chunk[1]
    return count_band_rows(plane) * across * plane.samples * plane.item_bytes


def _read(plane: TiffPlane, top: int, height: int) -> NDArray[Any]:
    """Return [height, W, samples] from row `top` on, in the machine's byte order."""
    with wrap_codec_errors("TIFF"):
        read = read_raw if is_raw(plane) else _read_chunks
        samples = read(plane, top, height)
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def read_raw(plane: TiffPlane, top: int, height: int) -> NDArray[Any]:
    """Return [height, W, samples] from row `top` on, in the file's byte order. Raises BadInput."""
    page, handle = plane.page, plane.page.parent.filehandle
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    samples = np.empty((height, plane.width, plane.samples), dtype)
    row_bytes = plane.width * plane.chunk_samples * plane.item_bytes
    strip_rows = min(plane.chunk[0], plane.height)
    strips = math.ceil(plane.height / strip_rows)
    for first in range(0, plane.samples, plane.chunk_samples):
        row = top
        while row < top + height:
            strip, within = divmod(row, strip_rows)
            count = min(strip_rows - within, top + height - row)
            offset, stored = plane.segments[first // plane.chunk_samples * strips + strip]
            if stored < (within + count) * row_bytes:
                raise damaged_file_error("TIFF")
            handle.seek(offset + within * row_bytes)
            values = np.frombuffer(handle.read(count * row_bytes), dtype)
            part = samples[row - top : row - top + count, :, first : first + plane.chunk_samples]
            part[...] = values.reshape(part.shape)
            row += count
    return samples


def _read_chunks(plane: TiffPlane, top: int, height: int) -> NDArray[Any]:
    page, handle = plane.page, plane.page.parent.filehandle
    across, down = (
        math.ceil(side / part)
        for side, part in zip((plane.width, plane.height), plane.chunk[::-1], strict=True)
    )
    rows = range(top // plane.chunk[0], math.ceil((top + height) / plane.chunk[0]))
    extra = {"jpegtables": page.jpegtables, "jpegheader": None} if page.compression == JPEG else {}
    samples = np.empty((height, plane.width, plane.samples), page.dtype)
    decode = page.decode  # built at first use, from tags that are read only then
    for layer in range(plane.samples // plane.chunk_samples):
        for number in range((layer * down + rows.start) * across, (layer * down + rows.stop) * across):
            offset, count = plane.segments[number]
            handle.seek(offset)
            decoded, at, shape = decode(
                handle.read(count) if count else None, number, _fullsize=False, **extra
            )
            part = samples[
                at[2] - top : at[2] - top + shape[1],
                at[3] : at[3] + shape[2],
                layer * plane.chunk_samples : (layer + 1) * plane.chunk_samples,
            ]
            part[...] = page.nodata if decoded is None else decoded[0, : part.shape[0], : part.shape[1]]
    return samples
