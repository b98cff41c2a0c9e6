"""Import Mask R-CNN of torchvision: maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2, any number of classes.

A checkpoint does not hold the anchors, the image's resizing and the thresholds. They are torchvision's defaults, as in
a network that was made with `num_classes` alone.
"""

import re
from collections.abc import Callable, Sequence
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
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.importers.compare_instances import compare_mask_rcnn
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint

PARTS = ("backbone.", "rpn.", "roi_heads.")
CLASS_SCORES = "roi_heads.box_predictor.cls_score.weight"
COCO_CLASSES = tuple(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
# torchvision's names before 0.14 (MaskRCNNHeads, RPNHead and FeaturePyramidNetwork, `_load_from_state_dict`).
OLD_NAMES = (
    (re.compile(r"^(roi_heads\.mask_head)\.mask_fcn(\d+)\."), lambda m: f"{m[1]}.{int(m[2]) - 1}.0."),
    (re.compile(r"^(rpn\.head\.conv)\.(weight|bias)$"), lambda m: f"{m[1]}.0.0.{m[2]}"),
    (re.compile(r"^(backbone\.fpn\.\w+_blocks\.\d+)\.(weight|bias)$"), lambda m: f"{m[1]}.0.{m[2]}"),
)


def build_frozen(eps: float) -> Callable[[int], nn.Module]:
    """Return a builder of resnet50_fpn with frozen batch norms, as torchvision makes it for pretrained backbones.

    eps: of the batch norms.
    """

    def build(num_classes: int) -> nn.Module:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
        network = MaskRCNN(backbone, num_classes)
        for module in network.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = eps
        return network

    return build


def build_plain(network: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda num_classes: network(weights=None, weights_backbone=None, num_classes=num_classes)


# Frozen batch norms are saved without a count of batches. Their statistics are COCO's, for which torchvision sets eps
# to 0, unless training began at weights_backbone. Nothing in the file tells, so that case is a variant of its own.
VARIANTS: dict[str, Callable[[int], nn.Module]] = {
    "resnet50_fpn": build_plain(maskrcnn_resnet50_fpn),
    "resnet50_fpn_coco": build_frozen(0.0),
    "resnet50_fpn_imagenet": build_frozen(1e-5),
    "resnet50_fpn_v2": build_plain(maskrcnn_resnet50_fpn_v2),
}


def recognise_variant(state: StateDict) -> str:
    """Return the variant, by the heads and by the batch norms' tensors. Raises BadInput."""
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
    """Return the tensors under torchvision's current names."""

    def rename(key: str) -> str:
        for pattern, name in OLD_NAMES:
            key = pattern.sub(name, key)
        return key

    return {rename(key): value for key, value in state.items()}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and compare it with torchvision. Raises BadInput, BrokenModel."""
    request.on_stage("reading the checkpoint")
    network, architecture = build_mask_rcnn(read_checkpoint(request.checkpoint), request.variant)
    classes = name_classes(network.roi_heads.box_predictor.cls_score.out_features, request.classes)
    request.on_stage("writing ONNX graphs")
    bundle = export_mask_rcnn(
        network,
        request.folder,
        name=request.name,
        architecture=architecture,
        classes=classes,
        **vars(request.card),
    )
    request.on_stage("comparing with the library")
    compare_mask_rcnn(bundle, network)


def build_mask_rcnn(state: StateDict, variant: str | None) -> tuple[Any, str]:
    """Return torchvision's network with these weights, and the name of its architecture. Raises BadInput."""
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


def name_classes(count: int, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of `count` classes by index, the background first.

    names: the user's names of all classes but the background, or none. Raises BadInput where they do not fit.
    """
    if not names:
        if count == len(COCO_CLASSES):
            return COCO_CLASSES
        return ("__background__", *(f"class_{i}" for i in range(1, count)))
    if len(names) != count - 1:
        raise BadInput(
            f"The checkpoint has {count - 1} classes besides the background, and {len(names)} are named.",
            field="classes",
            remedy="Name them in the order of their labels, which begin with 1: --classes cat,dog",
        )
    if len(set(names)) < len(names) or not all(names):
        raise BadInput("Two classes have the same name, or one has none.", field="classes")
    return "__background__", *names
