"""Preprocessing: pixels to a model's input tensor, equal to what the models' own Python packages compute."""

import numpy as np
from PIL import Image

from segserve.images.normalise import compute_histogram, percentiles_of_histogram
from segserve.types import Float32, Preprocess, Size, UInt8


def preprocess_image(
    image: UInt8, options: Preprocess, original_size: Size | None = None, shown: Size | None = None
) -> Float32:
    """Turn an RGB image [H, W, 3] into the input tensor [1, 3, input_size, input_size].

    original_size: of the image before it was reduced for reading; None if it was not. The shape of the input follows
    from it.
    shown: the part of original_size, from its top left corner, that the image shows; None if it is all of it. The rest
    is padded as SAM pads.
    """
    if shown is not None and original_size is not None and shown != original_size:
        return _normalise_and_pad(_resize_shown(image, options.input_size, original_size, shown), options)
    if options.resize == "stretch" and options.stretch_percentiles is None:
        return _stretch_and_normalise(image, options)
    if options.resize == "stretch":
        return _normalise_and_pad(_stretch_to_square(image, options.input_size), options)
    size = original_size or Size(*image.shape[:2])
    return _normalise_and_pad(_resize_longest_side(image, options.input_size, size), options)


def _resize_longest_side(image: UInt8, edge: int, original_size: Size) -> UInt8:
    """Resize to [h, w, 3] with the longer side `edge`, as segment_anything's ResizeLongestSide.apply_image does."""
    scale = edge * 1.0 / max(original_size.height, original_size.width)
    # At least 1 pixel: the original fails for images more than 2 * edge times as long as wide.
    height, width = (max(1, int(side * scale + 0.5)) for side in (original_size.height, original_size.width))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _resize_shown(image: UInt8, edge: int, original_size: Size, shown: Size) -> UInt8:
    """Resize to [h, w, 3], so that the longer side of `original_size`, of which `shown` is a part, would be `edge`."""
    scale = edge / max(original_size.height, original_size.width)
    height, width = (max(1, int(side * scale + 0.5)) for side in (shown.height, shown.width))
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _stretch_to_square(image: UInt8, edge: int) -> UInt8:
    """Resize to [edge, edge, 3], rounded."""
    planes = [_resize_plane(image[:, :, channel], edge) for channel in range(3)]
    return np.rint(np.stack(planes, axis=2)).astype(np.uint8)


def _stretch_and_normalise(image: UInt8, options: Preprocess) -> Float32:
    """Do what sam2's SAM2Transforms does: resize as floats, without rounding in between, then normalise."""
    result = np.empty((1, 3, options.input_size, options.input_size), np.float32)
    for channel in range(3):
        resized = _resize_plane(image[:, :, channel], options.input_size)
        result[0, channel] = (resized - np.float32(options.mean[channel])) / np.float32(options.std[channel])
    return result


def _resize_plane(plane: UInt8, edge: int) -> Float32:
    """Resize one channel [H, W] to [edge, edge] float32, 0..255.

    Pillow's bilinear filter widens with the reduction, as torchvision's does with antialias=True.
    """
    floats = Image.fromarray(plane.astype(np.float32))
    return np.asarray(floats.resize((edge, edge), Image.Resampling.BILINEAR))


def _normalise_and_pad(resized: UInt8, options: Preprocess) -> Float32:
    """Turn [h, w, 3] into [1, 3, edge, edge]: (x - mean) / std, then zeros to the right and below, as Sam.preprocess.

    Each of the 256 values is computed once.
    """
    height, width = resized.shape[:2]
    values = np.arange(256, dtype=np.float32)
    if options.stretch_percentiles is not None:
        values = percentile_table(resized, options.stretch_percentiles)
    result = np.zeros((1, 3, options.input_size, options.input_size), np.float32)
    for channel in range(3):
        table = (values - np.float32(options.mean[channel])) / np.float32(options.std[channel])
        result[0, channel, :height, :width] = table[resized[:, :, channel]]
    return result


def percentile_table(resized: UInt8, low_high: tuple[float, float]) -> Float32:
    """Return [256], what each value becomes when the two percentiles become 0 and 255.

    The formula is that of the training. It divides by at least 1, so that an even image stays even.
    """
    low, high = percentiles_of_histogram(compute_histogram(resized), low_high)
    scaled = (np.arange(256) - low) * (255.0 / max(high - low, 1.0))
    table: Float32 = np.clip(np.rint(scaled), 0, 255).astype(np.float32)
    return table
