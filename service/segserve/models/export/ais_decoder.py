"""The decoder for automatic instance segmentation, written as a bundle's ais.onnx."""

import torch
from torch import nn

from segserve.models.bundle import Bundle, PromptableManifest, write_manifest
from segserve.models.export.onnx_files import export
from segserve.models.export.sam import fold_batch_norms, round_to_half
from segserve.models.promptable_model import AIS


def add_automatic(decoder: nn.Module, bundle: Bundle, *, half: bool = False) -> Bundle:
    """Write `decoder` beside the graphs of a promptable bundle.

    decoder: embedding [1, C, g, g] -> maps [1, 3, h, h], 0 to 1: foreground, distance to the object's centre,
    inverted distance to its boundary. half: round the weights to fp16 and store them so. Raises WrongModel.
    """
    manifest = bundle.expect(PromptableManifest)
    decoder = fold_batch_norms(decoder)
    if half:
        round_to_half(decoder)
    inputs = {"embedding": torch.zeros(1, *manifest.dims.embedding)}
    export(decoder, bundle.folder / AIS, inputs, ("maps",), half=half)
    return write_manifest(bundle.folder, manifest)
