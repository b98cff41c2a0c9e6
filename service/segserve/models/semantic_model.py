"""A loaded semantic model, such as a U-Net: a class for every pixel."""

from typing import ClassVar

import numpy as np

from segserve.models.bundle import Bundle
from segserve.models.manifest import Activation, Manifest, SemanticManifest
from segserve.models.runtime.open_graph import open_graph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Device, Float32

MAX_GPU_BATCH_TILES = 8
# On a CPU a batch takes as long as its tiles one by one, and more memory.
MAX_CPU_BATCH_TILES = 1


class SemanticModel:
    """`SemanticModel` runs the graph of a semantic bundle; see `SemanticManifest` for its interface.

    max_batch_tiles: how many tiles of a sliding window should run together.
    """

    MANIFEST_TYPE: ClassVar[type[Manifest]] = SemanticManifest

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        self.bundle = bundle
        self.manifest = bundle.expect(SemanticManifest)
        self._graph = open_graph(bundle.path("model.onnx"), options)
        self.max_batch_tiles = MAX_CPU_BATCH_TILES if options.device is Device.CPU else MAX_GPU_BATCH_TILES

    @property
    def name(self) -> str:
        return self.bundle.name

    def run(self, images: Float32) -> Float32:
        """Return the graph's own output [N, K, H, W], without the activation.

        images: [N, C, H, W] as the manifest's `input` prepares them, H and W multiples of its `multiple`.

        Raises OutOfMemory.
        """
        if len(images) > 1 and not self._graph.is_batched:
            return np.concatenate([self.run(images[i : i + 1]) for i in range(len(images))])
        [output] = self._graph.run({self._graph.inputs[0]: images}).values()
        return output

    def predict_probabilities(self, images: Float32) -> Float32:
        """Return the probabilities [N, K, H, W]: the output of `run` after the manifest's activation."""
        return apply_activation(self.run(images), self.manifest.activation)


def apply_activation(logits: Float32, activation: Activation) -> Float32:
    """Turn logits [N, K, H, W] into probabilities, in place."""
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
