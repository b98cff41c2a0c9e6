"""A SAM of ViT-B's size with random weights, whose masks are one blob that covers a chosen share of the image.

Random weights give logits that are noise, with a standard deviation of about 0.06. A smooth hill is added to the
low-res logits, in the reference and in every export alike. So masks look like masks of the requested size.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, Sam
from torch import Tensor

from segserve.models.export import sam as exporter
from segserve.models.export.fast_decoder import FastDecoder

LOW_RES = 256  # the edge of the low-res logits
SHARES = {"1%": 0.01, "25%": 0.25, "100%": 1.0}  # of the image


def build_hill(share: float) -> Tensor:
    """Return logits [256, 256], positive on a centred disc that covers `share` of the image, everywhere for 1."""
    if share >= 1:
        return torch.full((LOW_RES, LOW_RES), 1.0)
    y, x = np.mgrid[:LOW_RES, :LOW_RES] - (LOW_RES - 1) / 2
    radius = LOW_RES * np.sqrt(share / np.pi)
    return torch.from_numpy(((radius - np.hypot(x, y)) / 8).clip(-4, 4)).float()


class HillyMaskDecoder(MaskDecoder):
    hill: Tensor

    def predict_masks(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        masks, scores = super().predict_masks(*args, **kwargs)
        return masks + self.hill, scores


def build_blob_sam(share: float) -> Sam:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    sam.mask_decoder.__class__ = HillyMaskDecoder
    sam.mask_decoder.register_buffer("hill", build_hill(share))
    return sam


def export_blob_sam(sam: Sam, folder: Path) -> None:
    """Write the bundle of a `build_blob_sam` network."""

    class HillyFastDecoder(FastDecoder):
        def forward(self, *args: Tensor) -> tuple[Tensor, Tensor]:
            masks, scores = super().forward(*args)
            return masks + self.decoder.hill, scores

    original, exporter.FastDecoder = exporter.FastDecoder, HillyFastDecoder
    try:
        exporter.export_sam(sam, folder, name=folder.name, architecture="vit_b")
    finally:
        exporter.FastDecoder = original
