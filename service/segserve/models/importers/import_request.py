"""The request for one import: the kind of checkpoint, the file, and the origin that the manifest states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from segserve.models.manifest import Subject


class CheckpointKind(StrEnum):
    """The kind of a checkpoint, by the library that reads it. Each value names the importer's module."""

    SAM = "sam"  # segment-anything: vit_b, vit_l, vit_h, and fine-tunes of them
    MEDSAM = "medsam"  # the same network, with MedSAM's way of preparing images
    LITE_MEDSAM = "lite_medsam"  # MedSAM's small student, on 256 x 256 pixels
    MOBILE_SAM = "mobile_sam"  # vit_t
    MICRO_SAM = "micro_sam"  # either of them with micro-sam's decoder for automatic segmentation
    MICRO_SAM_PROMPTS = "micro_sam_prompts"  # the same without that decoder, for prompts and AMG
    SAM2 = "sam2"  # 2.0 and 2.1: tiny, small, base_plus, large
    MASK_RCNN = "mask_rcnn"  # torchvision: maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2
    UNET = "unet"  # as commonly written: inc, down1.. or downs, ups
    TRANSUNET = "transunet"  # the published repository's names: R50-ViT-B_16, R50-ViT-L_16
    SMP = "smp"  # segmentation-models-pytorch: unet:resnet34 and the like
    BIOIMAGEIO = "bioimageio"  # a package of the BioImage Model Zoo with ONNX weights
    VGG_UNET = "vgg_unet"  # the U-Net for lungs on chest X-rays, as published
    ONNX = "onnx"  # any graph with [N, C, H, W] in and [N, K, H, W] out
    ONNX_PAIR = "onnx_pair"  # the encoder and the decoder of a SAM, a SAM 2 or an EfficientSAM


class OnnxPairKind(StrEnum):
    """The kinds of ONNX pairs; `pair_interface` has the interfaces."""

    SAM = "sam_onnx"
    SAM2 = "sam2_onnx"
    EFFICIENT_SAM = "efficient_sam_onnx"


@dataclass(frozen=True)
class ModelCard:
    """The origin of a model and what it is for, as its manifest states it."""

    description: str = ""
    licence: str = ""
    source: str = ""
    suits: tuple[Subject, ...] = ()


@dataclass(frozen=True)
class ImportRequest:
    """One import. folder: an empty folder to write the bundle into. The other fields are the parameters of
    `import_checkpoint`."""

    checkpoint: Path
    folder: Path
    name: str
    card: ModelCard
    variant: str | None
    decoder: Path | None
    classes: Sequence[str]
    manifest: Path | None
    keep_weights: bool
    fields: Mapping[str, Any]
    on_stage: Callable[[str], None]
