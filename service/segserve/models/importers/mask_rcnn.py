"""Mask R-CNN through torchvision: maskrcnn_resnet50_fpn and its second version, with any number of classes.

A checkpoint says nothing of the anchors, of how the image is resized and of the thresholds: they are torchvision's
defaults, as for a network that was made with `num_classes` alone.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.importers.compare_instances import compare_mask_rcnn
from segserve.models.importers.import_request import ImportRequest, ModelCard
from segserve.models.importers.read_checkpoint import StateDict, load_weights, read_checkpoint

PARTS = ("backbone.", "rpn.", "roi_heads.")
CLASS_SCORES = "roi_heads.box_predictor.cls_score.weight"
COCO_CLASSES = tuple(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
# torchvision's names before 0.14 (MaskRCNNHeads, RPNHead and FeaturePyramidNetwork, `_load_from_state_dict`).
OLD_NAMES = (
    (re.compile(r"^(roi_heads\.mask_head)\.mask_fcn(\d+)\."), lambda m: f"{m[1]}.{int(m[2]) - 1}.0."),
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), lambda m: f"{m[1]}.0.0.{m[2]}"),
    (re.compile(r"^(backbone\.fpn\.\w+_blocks\.\d+)\.(weight|bias)$"), lambda m: f"{m[1]}.0.{m[2]}"),
)


def frozen(eps: float) -> Callable[[int], nn.Module]:
    """The first version as torchvision makes it for pretrained backbones."""

    def build(num_classes: int) -> nn.Module:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
        network = MaskRCNN(backbone, num_classes)
        for module in network.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = eps
        return network

    return build


def plain(network: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda num_classes: network(weights=None, weights_backbone=None, num_classes=num_classes)


# Statistics that are not trained are saved without a count of batches. They are COCO's, whose eps torchvision sets
# to 0, unless training began at weights_backbone: nothing in the file tells, hence a variant of its own.
VARIANTS: dict[str, Callable[[int], nn.Module]] = {
    "resnet50_fpn": plain(maskrcnn_resnet50_fpn),
    "resnet50_fpn_coco": frozen(0.0),
    "resnet50_fpn_imagenet": frozen(1e-5),
    "resnet50_fpn_v2": plain(maskrcnn_resnet50_fpn_v2),
}


def recognise_variant(state: StateDict) -> str:
    """The variant, by the heads and by what is kept of the batch norms. Raises BadInput."""
    if "roi_heads.box_head.fc6.weight" in state:
        trained = any(k.startswith("backbone.") and k.endswith("num_batches_tracked") for k in state)
        return "resnet50_fpn" if trained else "resnet50_fpn_coco"
    if "roi_heads.box_head.0.0.weight" in state:
        return "resnet50_fpn_v2"
    raise BadInput(
        "This is not a checkpoint of torchvision's maskrcnn_resnet50_fpn or maskrcnn_resnet50_fpn_v2.",
        field="checkpoint",
        remedy="Expected their state dict, with keys such as 'roi_heads.box_head.fc6.weight'.",
    )


def rename_old_keys(state: StateDict) -> StateDict:
    """By today's names."""

    def today(key: str) -> str:
        for pattern, name in OLD_NAMES:
            key = pattern.sub(name, key)
        return key

    return {today(key): value for key, value in state.items()}


class MaskRcnnImporter:
    def write_bundle(self, request: ImportRequest) -> None:
        """The bundle, compared with torchvision. Raises BadInput, BrokenModel."""
        request.on_stage("reading the checkpoint")
        network, architecture = self.build(read_checkpoint(request.checkpoint), request.variant)
        request.on_stage("writing ONNX graphs")
        bundle = self.export(
            network,
            request.folder,
            name=request.name,
            architecture=architecture,
            card=request.card,
            classes=request.classes,
        )
        request.on_stage("comparing with the library")
        compare_mask_rcnn(bundle, network)

    def build(self, state: StateDict, variant: str | None) -> tuple[Any, str]:
        """torchvision's network with these weights, and the name of its architecture. Raises BadInput."""
        variant, state = variant or recognise_variant(state), rename_old_keys(state)
        if variant not in VARIANTS:
            raise BadInput(
                f"Mask R-CNN has no variant {variant!r}.",
                field="variant",
                remedy=f"Known: {', '.join(VARIANTS)}.",
            )
        scores = state.get(CLASS_SCORES)
        if scores is None or scores.ndim != 2 or len(scores) < 2:
            raise BadInput(
                f"This is not a checkpoint of Mask R-CNN: it lacks {CLASS_SCORES}.",
                field="checkpoint",
                remedy="Expected a row for the background and one for each class.",
            )
        network = VARIANTS[variant](len(scores))
        return load_weights(network, state, f"Mask R-CNN {variant}", PARTS), f"mask_rcnn_{variant}"

    def export(
        self,
        network: Any,
        folder: Path,
        *,
        name: str,
        architecture: str,
        card: ModelCard,
        classes: Sequence[str] = (),
    ) -> Bundle:
        """classes: names of all but the background. Raises BadInput where they do not fit."""
        count = network.roi_heads.box_predictor.cls_score.out_features
        names = class_names(count, classes)
        return export_mask_rcnn(
            network, folder, name=name, architecture=architecture, classes=names, **vars(card)
        )


def class_names(count: int, given: Sequence[str]) -> tuple[str, ...]:
    """Names by index for `count` classes, the background among them. Raises BadInput."""
    if not given:
        return (
            COCO_CLASSES
            if count == len(COCO_CLASSES)
            else ("__background__", *(f"class_{i}" for i in range(1, count)))
        )
    if len(given) != count - 1:
        raise BadInput(
            f"The checkpoint has {count - 1} classes besides the background, and {len(given)} are named.",
            field="classes",
            remedy="Name them in the order of their labels, which begin with 1: --classes cat,dog",
        )
    if len(set(given)) < len(given) or not all(given):
        raise BadInput("Two classes have the same name, or one has none.", field="classes")
    return "__background__", *given


IMPORTER = MaskRcnnImporter()
write_bundle = IMPORTER.write_bundle
