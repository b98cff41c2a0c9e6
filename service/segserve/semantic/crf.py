"""A fully connected (dense) CRF, by pydensecrf2: near pixels of a like colour are drawn to the same class.

Krähenbühl and Koltun, 2011, arXiv 1210.5644. It needs the probabilities of the whole image, and takes about a second
for 512 x 512 pixels.
"""

import importlib.util

import numpy as np

from segserve.errors import BadInput, describe_install
from segserve.models.semantic_manifest import Crf
from segserve.types import Float32, UInt8

# Weights of the two kernels, as in pydensecrf's example.
GAUSSIAN_WEIGHT = 3
BILATERAL_WEIGHT = 10
MIN_PROBABILITY = 1e-6  # a probability of 0 would have an infinite energy
MAX_CRF_PIXELS = 1 << 22  # a pixel takes some hundred bytes of memory per class


def require_crf() -> None:
    """Raise BadInput if pydensecrf2 is not installed: the request can do without it."""
    if importlib.util.find_spec("pydensecrf") is None:
        raise BadInput(
            "A dense CRF needs pydensecrf2, which is not installed here.",
            field="postprocess.crf",
            remedy=f"Leave it out, or install the extra crf: {describe_install('crf')}",
        )


def refine_by_crf(probabilities: Float32, image: UInt8, options: Crf, *, exclusive: bool) -> Float32:
    """Return the refined probabilities [K, H, W].

    probabilities: [K, H, W].
    image: [H, W, 3].
    exclusive: a pixel is exactly one of the channels, so all are refined together. Otherwise each channel is
        refined alone, against its complement.
    """
    if exclusive:
        return run_crf(probabilities, image, options)
    pairs = (run_crf(np.stack([1 - channel, channel]), image, options) for channel in probabilities)
    return np.stack([pair[1] for pair in pairs])


def run_crf(probabilities: Float32, image: UInt8, options: Crf) -> Float32:
    """Return the probabilities [K, H, W] of K exclusive channels after the CRF's mean-field inference."""
    from pydensecrf.densecrf import DenseCRF2D

    labels, height, width = probabilities.shape
    field = DenseCRF2D(width, height, labels)
    energy = -np.log(np.clip(probabilities, MIN_PROBABILITY, 1)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    field.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=GAUSSIAN_WEIGHT)
    field.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=BILATERAL_WEIGHT,
    )
    return np.array(field.inference(options.iterations), np.float32).reshape(probabilities.shape)
