"""How far two correct computations in float32 may be apart, from the arithmetic alone.

CPUs differ: vector widths change the order of sums, some kernels fuse a product and a sum into one rounding, libraries
choose other kernels. So no test takes the float32 result of one library on one CPU for the truth. The truth is computed
in float64, and both sides have to lie within a bound of it that follows from the number of roundings.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch: Any = pytest.importorskip("torch")

Float64 = NDArray[np.float64]

UNIT = 2.0**-24  # unit roundoff of float32: the largest relative error of one rounding

# Roundings are taken as independent. A sum of n terms is then off by more than LAMBDA * sqrt(n) * UNIT with a
# probability of at most 2 * exp(-LAMBDA**2 / 2) = 3e-8 (Higham and Mary, "A new approach to probabilistic rounding
# error analysis", SIAM J. Sci. Comput. 2019, theorem 2.4). A network's output has some 10,000 values.
LAMBDA = 6.0


def network_error(*sums: int) -> float:
    """The largest error of a network's outputs in float32, relative to their spread (standard deviation).

    sums: the lengths of the sums on the way from input to output, one after another. Each rounds as often as it is
    long, norms between them keep the values' scale, and independent errors add in squares.
    """
    return LAMBDA * math.sqrt(sum(sums)) * UNIT


# On the way through SAM's mask decoder lie about 36 sums: 12 a layer, 4 of the last attention, 8 of the head. The
# longest are those of the published MLP, 2048, and of the softmax and the attention over 4096 image tokens, whose
# weights add up to 1.
MASK_DECODER_ERROR = network_error(*[2048] * 36)  # 1e-4

# An image encoder of the size of ViT-B (Hiera tiny, TinyViT and the small ones of the tests are no deeper) has 12
# blocks, each with a projection into heads, an attention, a projection out of them, and an MLP of 768 and 3072.
ENCODER_ERROR = network_error(*[768, 768, 768, 768, 3072] * 12)  # 1e-4

# Two implementations of encoder and decoder, one after the other, may be apart by both errors of each.
CLICK_ERROR = 2 * math.hypot(ENCODER_ERROR, MASK_DECODER_ERROR)  # 3e-4


def bilinear(values: NDArray[np.floating], height: int, width: int) -> Float64:
    """[h, w] or [h, w, C] -> [height, width (, C)] in float64: torch's bilinear interpolation, align_corners=False."""
    for axis, length in ((0, height), (1, width)):
        source = values.shape[axis]
        position = np.maximum((np.arange(length) + 0.5) * (source / length) - 0.5, 0)
        low = np.minimum(position.astype(np.int64), source - 1)
        high = np.minimum(low + 1, source - 1)
        shape = [1] * values.ndim
        shape[axis] = length
        weight = np.clip(position - low, 0, 1).reshape(shape)
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return np.asarray(values, np.float64)


def bilinear_error(values: NDArray[np.floating]) -> float:
    """The largest error of `bilinear` of values [h, w (, C)] in float32, whatever the size it goes to.

    A position is a product and a difference of numbers up to h (or w), and its scale is a rounded quotient: 3 roundings
    of numbers up to h. That error of the weight counts as often as neighbours differ. The two interpolations then
    round 8 times (two products and a sum each, and the weights) numbers up to the largest value.
    """
    steps = [
        values.shape[axis] * float(np.abs(np.diff(values, axis=axis)).max(initial=0)) for axis in range(2)
    ]
    return UNIT * (3 * sum(steps) + 8 * float(np.abs(values).max(initial=0)))


def undecided(exact: NDArray[np.floating], error: float, threshold: float = 0.0) -> NDArray[np.bool_]:
    """Where rounding may put a value on either side of the threshold."""
    return np.asarray(np.abs(exact - threshold) <= error)


SIMULATIONS = 3
SIMULATION_MARGIN = (
    4.0  # a simulation draws some roundings of many; and of a layer it draws one, where float32 has several
)


def simulated_error(network: Any, run: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, float]:
    """The largest error of each output of a torch network in float32, however much the network amplifies errors.

    network: in float64; run: its answer. Every layer with weights has its outputs changed as float32 would round them:
    by a random relative error of UNIT * sqrt(n), for sums of n products. How far the answer moves is the error.
    Raises AssertionError where a change turns what is chosen: such an input says nothing about correctness.
    """
    exact = run()
    errors = dict.fromkeys(exact, 0.0)
    generator = torch.Generator()

    def rounded(layer: Any, inputs: Any, output: Any) -> Any:
        terms = layer.weight[0].numel() if layer.weight.ndim > 1 else 1
        noise = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        return output * (1 + UNIT * math.sqrt(terms) * noise)

    layers = [
        layer for layer in network.modules() if isinstance(getattr(layer, "weight", None), torch.Tensor)
    ]
    hooks = [layer.register_forward_hook(rounded) for layer in layers]
    try:
        for seed in range(SIMULATIONS):
            generator.manual_seed(seed)
            for name, values in run().items():
                assert values.shape == exact[name].shape, f"rounding decides how many {name} there are"
                errors[name] = max(errors[name], float(np.abs(values - exact[name]).max(initial=0)))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: SIMULATION_MARGIN * error for name, error in errors.items()}
