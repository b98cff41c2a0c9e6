"""A loaded Mask R-CNN: boxes and scores of a whole image, and masks for those of them that were chosen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, Manifest
from segserve.models.onnx_runtime import Arrays, OnnxGraph, RuntimeOptions
from segserve.types import Float32, Int64, Size

FEATURE_NAMES = ("p2", "p3", "p4", "p5")


@dataclass(frozen=True)
class Detections:
    """What the first graph says of N regions and C classes. boxes [N, C, 4] (x0, y0, x1, y1) in pixels of the
    resized image, within it; scores [N, C], the classes' probabilities; features: for the masks."""

    boxes: Float32
    scores: Float32
    features: Arrays


class InstancesModel:
    """options: how to run the graphs; None where this process does not run them."""

    MANIFEST_TYPE: ClassVar[type[Manifest]] = InstancesManifest

    def __init__(self, bundle: Bundle, options: RuntimeOptions | None) -> None:
        self.bundle = bundle
        self.manifest = bundle.expect(InstancesManifest)
        files = () if options is None else ("model.onnx", "masks.onnx")
        self._graphs = {file: OnnxGraph(bundle.path(file), options) for file in files if options is not None}

    @property
    def name(self) -> str:
        return self.bundle.name

    def detect(self, image: Float32, size: Size) -> Detections:
        """image [1, 3, H, W], H and W multiples of 32, which shows `size` at its top left. Raises OutOfMemory."""
        shown = np.array([size.height, size.width], np.int64)
        found = self._graphs["model.onnx"].run({"image": image, "size": shown})
        features = {name: found[name] for name in FEATURE_NAMES}
        return Detections(found["boxes"], found["scores"], features)

    def predict_masks(self, features: Arrays, boxes: Float32, labels: Int64) -> Float32:
        """boxes [M, 4] in pixels of the resized image, labels [M] of 1..C-1 -> probabilities [M, m, m] over
        each box. Raises OutOfMemory."""
        return self._graphs["masks.onnx"].run({**features, "boxes": boxes, "labels": labels})["masks"]
