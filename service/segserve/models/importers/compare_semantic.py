"""Export a semantic network from torch, and compare the bundle with the network."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from segserve.models.export.semantic import export_semantic
from segserve.models.importers.compare_arrays import check_error, error_over_max
from segserve.models.manifest import SemanticManifest
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel

# Largest error over the largest value.
TOLERANCE = 1e-4
# Images, height and width in multiples. Neither shape is that of the example that was traced.
SHAPES = ((1, 4, 6), (2, 3, 2))


def export_and_compare(
    network: nn.Module,
    folder: Path,
    manifest: SemanticManifest,
    on_stage: Callable[[str], None],
    *,
    exported: nn.Module | None = None,
) -> None:
    """Export the network and compare. Raises BrokenModel where the bundle's output differs from the network's.

    exported: what is exported in its place, a network that computes the same.
    """
    on_stage("writing the ONNX graph")
    network = network.eval()
    bundle = export_semantic(network if exported is None else exported.eval(), folder, manifest)
    on_stage("comparing with the library")
    model = SemanticModel(bundle, RuntimeOptions.for_trial())
    generator = torch.Generator().manual_seed(0)
    for count, rows, columns in SHAPES:
        height, width = rows * manifest.multiple, columns * manifest.multiple
        if manifest.fixed:
            height, width = manifest.tile
        images = torch.randn(count, manifest.input.channels, height, width, generator=generator)
        with torch.no_grad():
            expected = network(images).numpy()
        error = error_over_max(model.run(images.numpy()), expected)
        check_error(f"network (at {height} x {width})", error, TOLERANCE)
