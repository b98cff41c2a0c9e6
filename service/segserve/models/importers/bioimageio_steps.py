"""BioImage.IO's processing steps as parts of a semantic manifest, or a refusal that names the step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.models.manifest import Activation

WHITE = 255  # of the images here
SPACE = {"y", "x"}


@dataclass(frozen=True)
class LinearSteps:
    """What the steps so far make of a value x: gain * s(x) + offset, each one number or one a channel. statistic: s,
    as `Percentile` or `Standardise` have it; None: s(x) = x."""

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    statistic: dict[str, Any] | None = None

    def then(self, gain: Any, offset: Any) -> "LinearSteps":
        gain, offset = np.atleast_1d(np.float64(gain)), np.atleast_1d(np.float64(offset))
        return LinearSteps(self.gain * gain, self.offset * gain + offset, self.statistic)

    @property
    def plain(self) -> bool:
        return bool((self.gain == 1).all() and (self.offset == 0).all())


def refusal(step: Any, reason: str) -> BadInput:
    return BadInput(
        f"The package's step {step.id!r} cannot be done here: {reason}.",
        field="checkpoint",
        remedy="Import its ONNX file as onnx, and say in --manifest how images are prepared.",
    )


def build_input(steps: Sequence[Any], channels: int, brightest: float) -> dict[str, Any]:
    """The manifest's `input`. steps: the package's descriptions. brightest: the largest value of its test image,
    which shows the scale that it expects. Raises BadInput."""
    chain = LinearSteps(np.ones(1), np.zeros(1))
    for step in steps:
        chain = apply_step(chain, step)
    mean, std = (-chain.offset / chain.gain).tolist(), (1 / chain.gain).tolist()
    if chain.statistic is None:
        return {
            "channels": channels,
            "normalise": {"method": "fixed", "mean": mean, "std": std, "white": find_white_level(brightest)},
        }
    if chain.statistic["method"] == "percentile":
        return {"channels": channels, "normalise": {**chain.statistic, "mean": mean, "std": std}}
    if not chain.plain:
        raise refusal(steps[-1], "nothing can follow 'zero_mean_unit_variance'")
    return {"channels": channels, "normalise": chain.statistic}


def find_white_level(brightest: float) -> int:
    """What 255 counts as. Raises BadInput where the package's values are beyond 8 bits and never scaled."""
    if brightest > WHITE:
        raise BadInput(
            f"The network takes values up to {brightest:g} as they are, and images here are 8-bit.",
            field="checkpoint",
            remedy="Import its ONNX file as onnx, and say in --manifest how 8-bit images are prepared.",
        )
    return 1 if brightest <= 1 else WHITE


def apply_step(chain: LinearSteps, step: Any) -> LinearSteps:
    options = step.kwargs
    match str(step.id):
        case "ensure_dtype":
            if not options.dtype.startswith("float") and not chain.plain:
                raise refusal(step, f"it rounds to {options.dtype}")
            return chain
        case "scale_linear":
            check_axis(step)
            return chain.then(options.gain, options.offset)
        case "fixed_zero_mean_unit_variance":
            check_axis(step)
            mean, std = np.array(options.mean), np.array(options.std)
            return chain.then(1 / std, -mean / std)
        case "scale_range":
            if options.reference_tensor is not None:
                raise refusal(step, "its percentiles are of another tensor")
            statistic = {
                "method": "percentile",
                "low": options.min_percentile,
                "high": options.max_percentile,
            }
            return begin_statistic(chain, step, statistic)
        case "zero_mean_unit_variance":
            return begin_statistic(chain, step, {"method": "standardise"})
        case "clip":
            return apply_clip(chain, step)
        case _:
            raise refusal(step, "it is not known")


def begin_statistic(chain: LinearSteps, step: Any, statistic: dict[str, Any]) -> LinearSteps:
    """A statistic of the image as it comes: bioimageio.core takes it so, whatever stands before the step."""
    if chain.statistic is not None or not chain.plain:
        raise refusal(step, "there are steps before it that change its statistics")
    axes = None if step.kwargs.axes is None else {str(axis) for axis in step.kwargs.axes}
    if axes is not None and not axes >= SPACE:
        raise refusal(step, f"it is along {', '.join(sorted(axes)) or 'nothing'}, not over the image")
    together = axes is None or "channel" in axes
    changed = {**statistic, "per_channel": not together, "eps": float(step.kwargs.eps)}
    return LinearSteps(chain.gain, chain.offset, changed)


def apply_clip(chain: LinearSteps, step: Any) -> LinearSteps:
    """To 0 and 1 after percentiles, or where it changes no 8-bit value."""
    options = step.kwargs
    by_value = (
        getattr(options, "min_percentile", None) is None and getattr(options, "max_percentile", None) is None
    )
    low = -np.inf if options.min is None else options.min
    high = np.inf if options.max is None else options.max
    if by_value and chain.plain and chain.statistic is None and low <= 0 and high >= WHITE:
        return chain
    is_percentile = chain.statistic is not None and chain.statistic["method"] == "percentile"
    if by_value and chain.plain and is_percentile and (low, high) == (0, 1):
        assert chain.statistic is not None
        return LinearSteps(chain.gain, chain.offset, {**chain.statistic, "clip": True})
    raise refusal(step, "only clipping percentiles to 0 and 1 is")


def check_axis(step: Any) -> None:
    axis = getattr(step.kwargs, "axis", None)
    if axis is not None and str(axis) != "channel":
        raise refusal(step, f"it is along {axis}")


def build_activation(steps: Sequence[Any], classes: int) -> dict[str, Any]:
    """The manifest's `activation` and `thresholds`, where the steps after the network say something of them.
    Raises BadInput."""
    found: dict[str, Any] = {}
    for step in steps:
        match str(step.id):
            case "sigmoid" if not found:
                found["activation"] = Activation.SIGMOID
            case "softmax" if not found and str(step.kwargs.axis) == "channel":
                found["activation"] = Activation.SOFTMAX
            case "binarize" if "thresholds" not in found:
                found.setdefault("activation", Activation.NONE)
                # There values must be greater, here they must reach it.
                above = np.nextafter(np.float32(step.kwargs.threshold), np.float32(np.inf))
                found["thresholds"] = np.broadcast_to(above, classes).tolist()
            case "ensure_dtype":
                pass
            case _:
                raise refusal(step, "only sigmoid, softmax and binarize may follow the network")
    return found
