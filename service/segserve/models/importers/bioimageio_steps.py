"""Translate BioImage.IO's processing steps into fields of a semantic manifest, or refuse and name the step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.models.manifest import Activation

# The largest value of the service's 8-bit images.
WHITE = 255
SPACE_AXES = {"y", "x"}


@dataclass(frozen=True)
class LinearSteps:
    """The steps up to here as one function of a value x: gain * s(x) + offset.

    gain, offset: one number, or one for each channel.
    statistic: the function s, as fields of `Percentile` or `Standardise`; None is s(x) = x.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    statistic: dict[str, Any] | None = None

    def then(self, gain: Any, offset: Any) -> "LinearSteps":
        """Return these steps followed by gain * y + offset."""
        gain, offset = np.atleast_1d(np.float64(gain)), np.atleast_1d(np.float64(offset))
        return LinearSteps(self.gain * gain, self.offset * gain + offset, self.statistic)

    @property
    def is_identity(self) -> bool:
        """Whether gain and offset change nothing."""
        return bool((self.gain == 1).all() and (self.offset == 0).all())


def refusal(step: Any, reason: str) -> BadInput:
    """Return the error that names the step and the reason."""
    return BadInput(
        f"The package's step {step.id!r} cannot be done here: {reason}.",
        field="checkpoint",
        remedy="Import its ONNX file as onnx, and say in --manifest how images are prepared.",
    )


def build_input(steps: Sequence[Any], channels: int, max_value: float) -> dict[str, Any]:
    """Return the manifest's `input`. Raises BadInput.

    steps: the package's descriptions of its steps.
    max_value: the largest value of its test image, which shows the scale that it expects.
    """
    chain = LinearSteps(np.ones(1), np.zeros(1))
    for step in steps:
        chain = apply_step(chain, step)
    mean, std = (-chain.offset / chain.gain).tolist(), (1 / chain.gain).tolist()
    if chain.statistic is None:
        return {
            "channels": channels,
            "normalise": {"method": "fixed", "mean": mean, "std": std, "white": find_white_level(max_value)},
        }
    if chain.statistic["method"] == "percentile":
        return {"channels": channels, "normalise": {**chain.statistic, "mean": mean, "std": std}}
    if not chain.is_identity:
        raise refusal(steps[-1], "nothing can follow 'zero_mean_unit_variance'")
    return {"channels": channels, "normalise": chain.statistic}


def find_white_level(max_value: float) -> int:
    """Return the number that 255 stands for. Raises BadInput where values have more than 8 bits and are never scaled.

    max_value: the largest value of the package's test image.
    """
    if max_value > WHITE:
        raise BadInput(
            f"The network takes values up to {max_value:g} as they are, and images here are 8-bit.",
            field="checkpoint",
            remedy="Import its ONNX file as onnx, and say in --manifest how 8-bit images are prepared.",
        )
    return 1 if max_value <= 1 else WHITE


def apply_step(chain: LinearSteps, step: Any) -> LinearSteps:
    """Return the chain followed by one step. Raises BadInput."""
    options = step.kwargs
    match str(step.id):
        case "ensure_dtype":
            if not options.dtype.startswith("float") and not chain.is_identity:
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
    """Return a chain that begins with a statistic of the image. Raises BadInput.

    bioimageio.core computes the statistic of the unprocessed image, so no step before it may change the values.
    """
    if chain.statistic is not None or not chain.is_identity:
        raise refusal(step, "there are steps before it that change its statistics")
    axes = None if step.kwargs.axes is None else {str(axis) for axis in step.kwargs.axes}
    if axes is not None and not axes >= SPACE_AXES:
        raise refusal(step, f"it is along {', '.join(sorted(axes)) or 'nothing'}, not over the image")
    per_channel = axes is not None and "channel" not in axes
    fields = {**statistic, "per_channel": per_channel, "eps": float(step.kwargs.eps)}
    return LinearSteps(chain.gain, chain.offset, fields)


def apply_clip(chain: LinearSteps, step: Any) -> LinearSteps:
    """Return the chain followed by a clip: to 0 and 1 after percentiles, or one that changes no 8-bit value.

    Raises BadInput for any other clip.
    """
    options = step.kwargs
    by_value = (
        getattr(options, "min_percentile", None) is None and getattr(options, "max_percentile", None) is None
    )
    low = -np.inf if options.min is None else options.min
    high = np.inf if options.max is None else options.max
    if by_value and chain.is_identity and chain.statistic is None and low <= 0 and high >= WHITE:
        return chain
    is_percentile = chain.statistic is not None and chain.statistic["method"] == "percentile"
    if by_value and chain.is_identity and is_percentile and (low, high) == (0, 1):
        assert chain.statistic is not None
        return LinearSteps(chain.gain, chain.offset, {**chain.statistic, "clip": True})
    raise refusal(step, "only clipping percentiles to 0 and 1 is")


def check_axis(step: Any) -> None:
    """Raise BadInput unless the step's parameters are one number, or one for each channel."""
    axis = getattr(step.kwargs, "axis", None)
    if axis is not None and str(axis) != "channel":
        raise refusal(step, f"it is along {axis}")


def build_activation(steps: Sequence[Any], classes: int) -> dict[str, Any]:
    """Return the manifest's `activation` and `thresholds`, where the steps after the network set them.

    Raises BadInput.
    """
    fields: dict[str, Any] = {}
    for step in steps:
        match str(step.id):
            case "sigmoid" if not fields:
                fields["activation"] = Activation.SIGMOID
            case "softmax" if not fields and str(step.kwargs.axis) == "channel":
                fields["activation"] = Activation.SOFTMAX
            case "binarize" if "thresholds" not in fields:
                fields.setdefault("activation", Activation.NONE)
                # There a value must be greater than the threshold, here it must reach it.
                above = np.nextafter(np.float32(step.kwargs.threshold), np.float32(np.inf))
                fields["thresholds"] = np.broadcast_to(above, classes).tolist()
            case "ensure_dtype":
                pass
            case _:
                raise refusal(step, "only sigmoid, softmax and binarize may follow the network")
    return fields
