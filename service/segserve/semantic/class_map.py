"""Probabilities to classes."""

from collections.abc import Mapping

import numpy as np

from segserve.errors import BadInput
from segserve.models.bundle import Activation, SemanticManifest
from segserve.types import Float32, UInt8


def named(manifest: SemanticManifest) -> tuple[str, ...]:
    """The classes that are not background: the n-th, from 1, is n in class maps."""
    return tuple(name for channel, name in enumerate(manifest.classes) if channel != manifest.background)


def thresholds(manifest: SemanticManifest, asked: float | Mapping[str, float] | None) -> Float32:
    """[K], one a channel: what is asked for, for all classes or by name, else the manifest's. The background's is 0:
    it is what remains. Raises BadInput for a class that the model does not have."""
    default = 0.5 if manifest.activation is Activation.SIGMOID else 0.0
    found = dict(zip(manifest.classes, manifest.thresholds or [default] * len(manifest.classes), strict=True))
    if isinstance(asked, Mapping):
        for name in asked:
            if name not in named(manifest):
                raise BadInput(
                    f"Model {manifest.name!r} has no class {name!r}.",
                    field="threshold",
                    remedy=f"Its classes are {', '.join(named(manifest))}.",
                )
        found.update(asked)
    elif asked is not None:
        found = dict.fromkeys(manifest.classes, asked)
    values = np.array([found[name] for name in manifest.classes], np.float32)
    if manifest.background is not None:
        values[manifest.background] = 0
    return values


def decide(probabilities: Float32, least: Float32, background: int | None) -> UInt8:
    """probabilities [K, h, w], thresholds [K] -> class map [h, w]: of the classes that reach their thresholds the
    most probable, of equal ones the first; 0 where none does, or where that is the background."""
    values = np.arange(1, len(least) + 1)
    if background is not None:
        values[background:] -= 1
        values[background] = 0
    best = np.where(probabilities[0] >= least[0], probabilities[0], np.float32(-1))
    classes = np.where(best >= 0, values[0], 0).astype(np.uint8)
    for channel in range(1, len(least)):
        better = (probabilities[channel] >= least[channel]) & (probabilities[channel] > best)
        np.copyto(best, probabilities[channel], where=better)
        classes[better] = values[channel]
    return classes
