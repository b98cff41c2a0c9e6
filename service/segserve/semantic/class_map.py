"""Class maps: probabilities become one class per pixel, by thresholds and argmax."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segserve.errors import BadInput, quote
from segserve.masks import crop
from segserve.models.manifest import Activation, SemanticManifest
from segserve.types import Float16, Float32, ImageObjects, SegmentedObject, Size, UInt8


@dataclass(frozen=True)
class ClassArea:
    """The area of one class in a class map.

    value: the class's value in the map.
    area: in pixels.
    fraction: of the image, 0 to 1.
    """

    value: int
    name: str
    area: int
    fraction: float


@dataclass(frozen=True)
class ClassMap:
    """The class of every pixel of an image.

    values: [H, W] uint8; 0 is background, n is the n-th of `classes`.
    probabilities: [K, H, W] of the model's channels, with the background's, before thresholds and post-processing.
        None unless they were requested.
    """

    image_id: str
    model: str
    size: Size
    values: UInt8
    classes: tuple[ClassArea, ...]
    probabilities: Float16 | None

    def to_image_objects(self) -> ImageObjects:
        """Return one object for every class that occurs."""
        objects = [
            SegmentedObject(crop.from_mask(self.values == each.value), category=each.name)
            for each in self.classes
            if each.area
        ]
        return ImageObjects(self.image_id, self.model, self.size, objects)


def list_foreground_classes(manifest: SemanticManifest) -> tuple[str, ...]:
    """Return the names of all classes but the background. The n-th, from 1, has the value n in class maps."""
    return tuple(name for channel, name in enumerate(manifest.classes) if channel != manifest.background)


def resolve_thresholds(manifest: SemanticManifest, requested: float | Mapping[str, float] | None) -> Float32:
    """Return the threshold of each channel, [K].

    The background's threshold is always 0: background is what remains.

    requested: one threshold for all classes, or thresholds by class name; None takes the manifest's.

    Raises BadInput for a class that the model does not have.
    """
    default = 0.5 if manifest.activation is Activation.SIGMOID else 0.0
    defaults = manifest.thresholds or [default] * len(manifest.classes)
    by_name = dict(zip(manifest.classes, defaults, strict=True))
    if isinstance(requested, Mapping):
        for name in requested:
            if name not in list_foreground_classes(manifest):
                raise BadInput(
                    f"Model {manifest.name!r} has no class {quote(name)}.",
                    field="threshold",
                    remedy=f"Its classes are {', '.join(list_foreground_classes(manifest))}.",
                )
        by_name.update(requested)
    elif requested is not None:
        by_name = dict.fromkeys(manifest.classes, requested)
    thresholds = np.array([by_name[name] for name in manifest.classes], np.float32)
    if manifest.background is not None:
        thresholds[manifest.background] = 0
    return thresholds


def classify_pixels(probabilities: Float32, thresholds: Float32, background: int | None) -> UInt8:
    """Return the class map [h, w] of probabilities [K, h, w].

    A pixel gets the most probable of the classes that reach their threshold, and of equal ones the first.
    It gets 0 where no class does, or where the most probable one is the background.

    thresholds: [K].
    background: the channel of the background; None if the model has none.
    """
    values = np.arange(1, len(thresholds) + 1)
    if background is not None:
        values[background:] -= 1
        values[background] = 0
    best = np.where(probabilities[0] >= thresholds[0], probabilities[0], np.float32(-1))
    classes = np.where(best >= 0, values[0], 0).astype(np.uint8)
    for channel in range(1, len(thresholds)):
        better = (probabilities[channel] >= thresholds[channel]) & (probabilities[channel] > best)
        np.copyto(best, probabilities[channel], where=better)
        classes[better] = values[channel]
    return classes


def measure_class_areas(values: UInt8, manifest: SemanticManifest) -> tuple[ClassArea, ...]:
    """Return the area of every class of the model in a class map [H, W], also of those that do not occur."""
    counts = np.bincount(values.ravel(), minlength=256)
    return tuple(
        ClassArea(value, name, int(counts[value]), float(counts[value] / values.size))
        for value, name in enumerate(list_foreground_classes(manifest), start=1)
    )
