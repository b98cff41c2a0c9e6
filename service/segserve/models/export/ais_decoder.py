"""Export the decoder for automatic instance segmentation (AIS) as a bundle's ais.onnx."""

import torch
from torch import nn

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.batch_norm import fold_batch_norms
from segserve.models.export.torch_to_onnx import export_onnx, round_to_fp16
from segserve.models.manifest import PromptableManifest
from segserve.models.promptable_model import AIS_DECODER_FILE, FEATURE_NAMES


def add_ais_decoder(decoder: nn.Module, bundle: Bundle, *, fp16_weights: bool = False) -> Bundle:
    """Write `decoder` beside the graphs of a promptable bundle.

    decoder: embedding [1, C, g, g] -> maps [1, 3, h, h], 0 to 1: foreground, distance to the object's centre,
        inverted distance to its boundary. One with `INPUTS` reads these arrays of the bundle's embeddings.
    fp16_weights: round the weights to fp16 and store them so.

    Raises WrongModel.
    """
    manifest = bundle.expect(PromptableManifest)
    decoder = fold_batch_norms(decoder)
    if fp16_weights:
        round_to_fp16(decoder)
    shapes = dict(zip(FEATURE_NAMES, (manifest.dims.embedding, *manifest.dims.high_res), strict=False))
    names: tuple[str, ...] = getattr(decoder, "INPUTS", ("embedding",))
    inputs = {name: torch.zeros(1, *shapes[name]) for name in names}
    export_onnx(decoder, bundle.folder / AIS_DECODER_FILE, inputs, ("maps",), fp16_weights=fp16_weights)
    return write_manifest(bundle.folder, manifest)
