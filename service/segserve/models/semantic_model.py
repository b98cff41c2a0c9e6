"""A loaded semantic model: U-Net and its kin."""

from typing import ClassVar

import numpy as np

from segserve.models.bundle import Bundle
from segserve.models.manifest import Activation, Manifest, SemanticManifest
from segserve.models.onnx_runtime import OnnxGraph, RuntimeOptions
from segserve.types import Device, Float32

MAX_GPU_BATCH_TILES = 8


class SemanticModel:
    """Runs a semantic bundle's graph; see `SemanticManifest` for its interface."""

    MANIFEST_TYPE: ClassVar[type[Manifest]] = SemanticManifest

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        self.bundle = bundle
        self.manifest = bundle.expect(SemanticManifest)
        self._graph = OnnxGraph(bundle.path("model.onnx"), options)
        # On a CPU several tiles take as long together as one by one, and more memory.
        self.max_batch_tiles = 1 if options.device is Device.CPU else MAX_GPU_BATCH_TILES

    @property
    def name(self) -> str:
        return self.bundle.name

    def run(self, images: Float32) -> Float32:
        """images [N, C, H, W] as the manifest's `input` prepares them, H and W multiples of its `multiple` ->
        the graph's own output [N, K, H, W]. Raises OutOfMemory."""
        if len(images) > 1 and not self._graph.is_batched:
            return np.concatenate([self.run(images[i : i + 1]) for i in range(len(images))])
        [output] = self._graph.run({self._graph.inputs[0]: images}).values()
        return output

    def predict_probabilities(self, images: Float32) -> Float32:
        """As `run`, with the manifest's activation: 0 to 1."""
        return apply_activation(self.run(images), self.manifest.activation)


def apply_activation(logits: Float32, activation: Activation) -> Float32:
    """logits [N, K, H, W] -> probabilities, in place."""
    if activation is Activation.SIGMOID:
        # The same as 1 / (1 + exp(-x)), which would overflow.
        np.multiply(logits, 0.5, out=logits)
        np.tanh(logits, out=logits)
        logits += 1
        logits *= 0.5
    elif activation is Activation.SOFTMAX:
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
    return logits
