"""CLAHE: contrast-limited adaptive histogram equalisation, as OpenCV's `createCLAHE` (imgproc/src/clahe.cpp).

Grey results are within one grey level of OpenCV's. Of colour images the lightness is equalised, by conversion to 8-bit
CIELAB and back as OpenCV converts. There half of all values are within one level and 99 in a hundred within five,
because both round on the way.
"""

import numpy as np
from numpy.typing import NDArray

from segserve.models.semantic_manifest import Clahe
from segserve.types import Float32, UInt8

LEVELS = 256
STRIP_ROWS = 256  # rows processed at a time, so that memory does not grow with the image

# sRGB and CIELAB under D65 (IEC 61966-2-1; CIE 15).
RGB_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    np.float32,
)
WHITE_XYZ = RGB_TO_XYZ.sum(axis=1)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ).astype(np.float32)
# CIELAB's f(t) is the cube root of t above this value, and linear below.
LINEAR_BELOW = 216 / 24389
LINEAR_SLOPE = 24389 / 27 / 116
LINEAR_OFFSET = 16 / 116


def apply_clahe(image: UInt8, options: Clahe) -> UInt8:
    """Equalise a grey [H, W] or RGB [H, W, 3] image locally; the shape stays."""
    return equalise_grey(image, options) if image.ndim == 2 else equalise_lightness(image, options)


def equalise_grey(image: UInt8, options: Clahe) -> UInt8:
    """[H, W] -> [H, W]: map each pixel by the tables of the four nearest tiles, and interpolate bilinearly."""
    tables, tile_height, tile_width = make_tile_tables(image, options)
    height, width = image.shape
    left, right, x_part = find_neighbour_tiles(width, tile_width, options.tiles)
    neighbour_rows = find_neighbour_tiles(height, tile_height, options.tiles)
    result = np.empty_like(image)
    for start in range(0, height, STRIP_ROWS):
        rows = slice(start, min(height, start + STRIP_ROWS))
        above, below, y_part = (part[rows, None] for part in neighbour_rows)
        values = image[rows]
        upper = tables[above, left, values] * (1 - x_part) + tables[above, right, values] * x_part
        lower = tables[below, left, values] * (1 - x_part) + tables[below, right, values] * x_part
        result[rows] = np.rint(upper * (1 - y_part) + lower * y_part)
    return result


def find_neighbour_tiles(
    length: int, tile: int, tiles: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float32]:
    """Return, for every pixel of an axis, the tiles whose centres lie before and after it, and its position.

    The position runs from 0, at the centre of the first tile, to 1, at the centre of the second.
    """
    position = np.arange(length, dtype=np.float32) * np.float32(1 / tile) - np.float32(0.5)
    before = np.floor(position).astype(np.intp)
    part: Float32 = position - before.astype(np.float32)
    return np.maximum(before, 0), np.minimum(before + 1, tiles - 1), part


def make_tile_tables(image: UInt8, options: Clahe) -> tuple[Float32, int, int]:
    """Return the grey level that each tile maps each level to, [tiles, tiles, 256], and a tile's height and width."""
    tiles, (height, width) = options.tiles, image.shape
    if height % tiles or width % tiles:
        # OpenCV then pads both axes, and by a whole `tiles` the axis that needs no padding.
        padding = ((0, tiles - height % tiles), (0, tiles - width % tiles))
        image = np.pad(image, padding, mode="reflect")
    tile_height, tile_width = image.shape[0] // tiles, image.shape[1] // tiles
    pixels = tile_height * tile_width
    limit = max(int(options.clip_limit * pixels / LEVELS), 1)
    tables = np.empty((tiles, tiles, LEVELS), np.float32)
    for row in range(tiles):
        for column in range(tiles):
            part = image[row * tile_height : (row + 1) * tile_height]
            part = part[:, column * tile_width : (column + 1) * tile_width]
            counts = clip_histogram(np.bincount(part.ravel(), minlength=LEVELS), limit)
            tables[row, column] = np.clip(np.rint(counts.cumsum() * (LEVELS - 1) / pixels), 0, LEVELS - 1)
    return tables, tile_height, tile_width


def clip_histogram(counts: NDArray[np.intp], limit: int) -> NDArray[np.intp]:
    """Cut the histogram [256] at `limit` and spread the excess evenly over all levels."""
    excess = int(np.maximum(counts - limit, 0).sum())
    share, rest = divmod(excess, LEVELS)
    counts = np.minimum(counts, limit) + share
    if rest:
        counts[:: max(LEVELS // rest, 1)][:rest] += 1
    return counts


def equalise_lightness(image: UInt8, options: Clahe) -> UInt8:
    """[H, W, 3] RGB -> [H, W, 3]: equalise L of CIELAB and keep a and b."""
    strips = range(0, image.shape[0], STRIP_ROWS)
    lightness = np.empty(image.shape[:2], np.uint8)
    for start in strips:
        lab = rgb_to_lab(image[start : start + STRIP_ROWS])
        lightness[start : start + STRIP_ROWS] = np.rint(lab[..., 0] * 2.55)
    lightness = equalise_grey(lightness, options)
    result = np.empty_like(image)
    for start in strips:
        lab = rgb_to_lab(image[start : start + STRIP_ROWS])
        lab[..., 0] = lightness[start : start + STRIP_ROWS] / 2.55
        lab[..., 1:] = np.rint(lab[..., 1:])
        result[start : start + STRIP_ROWS] = lab_to_rgb(lab)
    return result


def rgb_to_lab(image: UInt8) -> Float32:
    """Convert sRGB [..., 3] to CIELAB: L (0 to 100), a, b."""
    levels = np.arange(LEVELS) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    relative = linear[image] @ RGB_TO_XYZ.T / WHITE_XYZ
    f = np.where(relative > LINEAR_BELOW, np.cbrt(relative), LINEAR_SLOPE * relative + LINEAR_OFFSET)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def lab_to_rgb(lab: Float32) -> UInt8:
    """Convert CIELAB back to sRGB, as the inverse of `rgb_to_lab`. Colours outside sRGB are clipped."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    relative = np.where(f**3 > LINEAR_BELOW, f**3, (f - LINEAR_OFFSET) / LINEAR_SLOPE)
    linear = np.clip((relative * WHITE_XYZ) @ XYZ_TO_RGB.T, 0, 1)
    levels = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    result: UInt8 = np.rint(levels * 255).astype(np.uint8)
    return result
