"""Pixels to a model's input tensor, equal to what the models' own Python packages compute."""

import numpy as np
from PIL import Image

from segserve.images.normalise import compute_histogram, percentiles_of_histogram
from segserve.types import Float32, Preprocess, Size, UInt8


def preprocess_image(image: UInt8, p: Preprocess, shows: Size | None = None) -> Float32:
    """image [H, W, 3] RGB to [1, 3, input_size, input_size] float32. shows: the size of what it shows, where that
    was reduced; None is its own."""
    if p.resize == "stretch" and p.stretch_percentiles is None:
        return _stretched(image, p)
    if p.resize == "stretch":
        return _normalised(_fill(image, p.input_size), p)
    return _normalised(_fit(image, p.input_size, shows or Size(*image.shape[:2])), p)


def _fit(image: UInt8, size: int, shows: Size) -> UInt8:
    """[h, w, 3] with the longer side `size`: segment_anything's ResizeLongestSide.apply_image."""
    scale = size * 1.0 / max(shows.height, shows.width)
    # At least 1, where the original fails for images more than 2 * size times as long as wide.
    height, width = (max(1, int(side * scale + 0.5)) for side in (shows.height, shows.width))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _fill(image: UInt8, size: int) -> UInt8:
    """[size, size, 3], rounded."""
    planes = [_resized_plane(image[:, :, channel], size) for channel in range(3)]
    return np.rint(np.stack(planes, axis=2)).astype(np.uint8)


def _stretched(image: UInt8, p: Preprocess) -> Float32:
    """sam2's SAM2Transforms: resized as floats, not rounded in between."""
    result = np.empty((1, 3, p.input_size, p.input_size), np.float32)
    for channel in range(3):
        resized = _resized_plane(image[:, :, channel], p.input_size)
        result[0, channel] = (resized - np.float32(p.mean[channel])) / np.float32(p.std[channel])
    return result


def _resized_plane(plane: UInt8, size: int) -> Float32:
    """[H, W] to [size, size] float32, 0..255. Pillow's bilinear filter widens with the reduction, as
    torchvision's does with antialias=True."""
    floats = Image.fromarray(plane.astype(np.float32))
    return np.asarray(floats.resize((size, size), Image.Resampling.BILINEAR))


def _normalised(resized: UInt8, p: Preprocess) -> Float32:
    """[h, w, 3] to [1, 3, size, size], zeros where the image does not reach. As Sam.preprocess does:
    (x - mean) / std, then padding. Each of the 256 values is computed once."""
    height, width = resized.shape[:2]
    values = np.arange(256, dtype=np.float32)
    if p.stretch_percentiles is not None:
        values = _stretch_table(resized, p.stretch_percentiles)
    result = np.zeros((1, 3, p.input_size, p.input_size), np.float32)
    for channel in range(3):
        table = (values - np.float32(p.mean[channel])) / np.float32(p.std[channel])
        result[0, channel, :height, :width] = table[resized[:, :, channel]]
    return result


def _stretch_table(resized: UInt8, at: tuple[float, float]) -> Float32:
    """[256]: what each value becomes. The same formula as in training, where at least 1 divides, so that an
    even image stays even."""
    low, high = percentiles_of_histogram(compute_histogram(resized), at)
    scaled = (np.arange(256) - low) * (255.0 / max(high - low, 1.0))
    table: Float32 = np.clip(np.rint(scaled), 0, 255).astype(np.float32)
    return table
