"""Separate the stains of a section (colour deconvolution), and invert grey values.

Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol. Histol.
2001. The stains' colours are those of scikit-image's `rgb_from_hed`, and the amounts of stain are its `rgb2hed`'s.
"""

import numpy as np

from segserve.errors import BadInput
from segserve.images.normalise import split_into_blocks
from segserve.types import ReadOptions, Stain, UInt8

# The absorbance of haematoxylin, eosin and DAB in R, G and B, a row each.
ABSORBANCE = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# R, G and B times this are the amounts of haematoxylin, eosin and DAB.
TO_STAINS = np.linalg.inv(ABSORBANCE)
COLUMNS = {Stain.HAEMATOXYLIN: 0, Stain.EOSIN: 1, Stain.DAB: 2}
# The amount of a stain, as the natural logarithm of the light that it absorbs, that is shown black. Nuclei in H&E reach
# it. Amounts are shown, not light: with light AIS of the starter found half as many nuclei.
MAX_AMOUNT = 2.0
# The least transmitted light that counts, as in scikit-image: it makes black finite.
MIN_LIGHT = 1e-6


def convert_colours(channels: UInt8, options: ReadOptions) -> UInt8:
    """Return [H, W, 1 or 3] as `options.stain` and `options.invert` say. Raises BadInput for a stain of grey."""
    if options.stain is not None:
        channels = separate_stain(channels, options.stain)
    return 255 - channels if options.invert else channels


def separate_stain(rgb: UInt8, stain: Stain) -> UInt8:
    """Return the amount of one stain as grey [H, W, 1]: 255 where there is none, 0 from MAX_AMOUNT on.

    Every pixel is converted by itself, so that tiles and whole images are equal. Raises BadInput for [H, W, 1].
    """
    if rgb.shape[2] != 3:
        raise BadInput(
            "The image is grey, and stains are told apart by colour.",
            remedy="Leave stain out, or send the colour image.",
            field="stain",
        )
    column = TO_STAINS[:, COLUMNS[stain]].astype(np.float32)
    values = np.maximum(np.arange(256) / 255, MIN_LIGHT)
    absorbances = np.log(values).astype(np.float32)[:, None] * column
    result = np.empty((*rgb.shape[:2], 1), np.uint8)
    channels = [split_into_blocks(rgb[:, :, channel]) for channel in range(3)]
    for red, green, blue, out in zip(*channels, split_into_blocks(result[:, :, 0]), strict=True):
        log_light = absorbances[red, 0] + absorbances[green, 1] + absorbances[blue, 2]
        out[...] = np.rint(255 * (1 - np.clip(-log_light / MAX_AMOUNT, 0, 1)))
    return result
