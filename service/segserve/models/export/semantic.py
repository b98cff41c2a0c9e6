"""Export a network that returns a class for every pixel, such as a U-Net, as a bundle."""

from pathlib import Path

import torch
from torch import nn

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.manifest import SemanticManifest

FREE_AXES = {0: "images", 2: "height", 3: "width"}


def export_semantic(
    network: nn.Module, folder: Path, manifest: SemanticManifest, *, fp16_weights: bool = False
) -> Bundle:
    """Write a network, images [N, C, H, W] -> [N, K, H, W], into `folder`.

    manifest: its `files` are filled in here.
    fp16_weights: store the weights, batch norms folded into them, as fp16; rounds them and halves the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = manifest.tile
    example = torch.zeros(1, manifest.input.channels, height, width)
    axes = {0: FREE_AXES[0]} if manifest.fixed else FREE_AXES
    dynamic = {"image": axes, "classes": axes}
    export_onnx(
        network, folder / "model.onnx", {"image": example}, ("classes",), dynamic, fp16_weights=fp16_weights
    )
    return write_manifest(folder, manifest)
