"""A loaded Mask R-CNN: boxes and scores of a whole image, then masks for the selected boxes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, Manifest
from segserve.models.runtime.graph import Arrays
from segserve.models.runtime.open_graph import open_graph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Float32, Int64, Size

# The levels of the feature pyramid (FPN) that masks are pooled from.
FEATURE_NAMES = ("p2", "p3", "p4", "p5")


@dataclass(frozen=True)
class DetectedRegions:
    """The first graph's output for N regions and C classes.

    boxes: [N, C, 4] as (x0, y0, x1, y1) in pixels of the resized image, within it.
    scores: [N, C], the classes' probabilities.
    features: the input of `InstancesModel.predict_masks`.
    """

    boxes: Float32
    scores: Float32
    features: Arrays


class InstancesModel:
    """`InstancesModel` runs the two graphs of a Mask R-CNN.

    options: how to run the graphs; None where this process does not run them.
    """

    MANIFEST_TYPE: ClassVar[type[Manifest]] = InstancesManifest

    def __init__(self, bundle: Bundle, options: RuntimeOptions | None) -> None:
        self.bundle = bundle
        self.manifest = bundle.expect(InstancesManifest)
        files = () if options is None else ("model.onnx", "masks.onnx")
        self._graphs = {file: open_graph(bundle.path(file), options) for file in files if options is not None}

    @property
    def name(self) -> str:
        return self.bundle.name

    def detect(self, image: Float32, size: Size) -> DetectedRegions:
        """Return boxes, scores and features of an image. Raises OutOfMemory.

        image: [1, 3, H, W], H and W multiples of 32; the image is its top left part, the rest is padding.
        size: of the image without the padding.
        """
        unpadded = np.array([size.height, size.width], np.int64)
        outputs = self._graphs["model.onnx"].run({"image": image, "size": unpadded})
        features = {name: outputs[name] for name in FEATURE_NAMES}
        return DetectedRegions(outputs["boxes"], outputs["scores"], features)

    def predict_masks(self, features: Arrays, boxes: Float32, labels: Int64) -> Float32:
        """Return probabilities [M, m, m], each over its box. Raises OutOfMemory.

        boxes: [M, 4] in pixels of the resized image.
        labels: [M] of 1..C-1.
        """
        return self._graphs["masks.onnx"].run({**features, "boxes": boxes, "labels": labels})["masks"]
