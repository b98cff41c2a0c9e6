"""A network that answers a class for every pixel, written as a bundle."""

from pathlib import Path

import torch
from torch import nn

from segserve.models.bundle import Bundle, SemanticManifest, write_manifest
from segserve.models.export.onnx_files import export

FREE = {0: "images", 2: "height", 3: "width"}


def export_semantic(
    network: nn.Module, folder: Path, manifest: SemanticManifest, *, half: bool = False
) -> Bundle:
    """Write `network`, images [N, C, H, W] -> [N, K, H, W], into `folder`.

    manifest: what it is and how its input is prepared; its `files` are filled in here. half: store the weights,
    batch norms folded into them, as fp16, which rounds them and halves the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = manifest.tile
    example = torch.zeros(1, manifest.input.channels, height, width)
    axes = {0: FREE[0]} if manifest.fixed else FREE
    dynamic = {"image": axes, "classes": axes}
    export(network, folder / "model.onnx", {"image": example}, ("classes",), dynamic, half=half)
    return write_manifest(folder, manifest)
