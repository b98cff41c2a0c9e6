"""A fully connected CRF (Krähenbühl and Koltun, 2011, arXiv 1210.5644), by pydensecrf2: pixels that are near and
look alike are drawn to the same class. It needs an image's probabilities whole, and about a second a 512 x 512."""

import importlib.util

import numpy as np

from segserve.errors import BadInput
from segserve.models.semantic_manifest import Crf
from segserve.types import Float32, UInt8

SMOOTH_WEIGHT, ALIKE_WEIGHT = 3, 10  # of the two kernels, as pydensecrf's example has them
LEAST = 1e-6  # a probability of 0 would have no energy
MOST_PIXELS = 1 << 22  # each takes some hundred bytes a class


def require_crf() -> None:
    """Raises BadInput where it is not installed: whoever asks can do without."""
    if importlib.util.find_spec("pydensecrf") is None:
        raise BadInput(
            "A dense CRF needs pydensecrf2, which is not installed here.",
            field="postprocess.crf",
            remedy="Leave it out, or install it with: pip install 'segserve[crf]'",
        )


def refine(probabilities: Float32, image: UInt8, options: Crf, *, exclusive: bool) -> Float32:
    """probabilities [K, H, W], image [H, W, 3] -> probabilities. exclusive: the channels are all that a pixel can be,
    and are refined together; otherwise each by itself against the rest."""
    if exclusive:
        return infer(probabilities, image, options)
    pairs = (infer(np.stack([1 - channel, channel]), image, options) for channel in probabilities)
    return np.stack([pair[1] for pair in pairs])


def infer(probabilities: Float32, image: UInt8, options: Crf) -> Float32:
    from pydensecrf.densecrf import DenseCRF2D

    labels, height, width = probabilities.shape
    field = DenseCRF2D(width, height, labels)
    energy = -np.log(np.clip(probabilities, LEAST, 1)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    field.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=SMOOTH_WEIGHT)
    field.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=ALIKE_WEIGHT,
    )
    return np.array(field.inference(options.iterations), np.float32).reshape(probabilities.shape)
