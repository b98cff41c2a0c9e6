"""Export torchvision's Mask R-CNN as the two ONNX files of a bundle.

    model.onnx   image [1, 3, H, W], size [2] -> boxes [N, C, 4], scores [N, C], features p2 to p5
    masks.onnx   features, boxes [M, 4], labels [M] -> masks [M, m, m]

The network is cut where requests set parameters. Between the graphs, `segserve.instances.box_nms` applies the
thresholds, the suppression (NMS) per class and the number of objects. `segserve.instances.preprocess` resizes before
them, `segserve.instances.paste_masks` pastes masks after them. H and W are any multiples of 32; `size` is the height
and width of the image inside, and the rest is padding. The graphs differ from torchvision's own export:

- Proposals are suppressed level by level. torchvision's tracing shifts the boxes of all levels apart and suppresses
  them together, which rounds their coordinates. Its eager mode does not, and is the reference here.
- Boxes are decoded for the selected anchors, not for all.
- One gather puts the pooled levels in order, not one scatter per level.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align
from torchvision.ops.poolers import LevelMapper

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.instances_model import FEATURE_NAMES
from segserve.models.manifest import InstancesManifest, ModelKind, ResizeEntry, Subject

EXAMPLE_SHAPE = (1, 3, 128, 160)
# The levels of the features that are pooled. Level k has a stride of 2**k pixels.
POOLED_LEVELS = range(2, 6)


class DetectionGraph(nn.Module):
    """The first graph: an image's boxes, class scores and features.

    network: a `torchvision.models.detection.MaskRCNN`.
    """

    OUTPUTS = ("boxes", "scores", *FEATURE_NAMES)

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.backbone, self.rpn, self.heads = network.backbone, network.rpn, network.roi_heads

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        levels = list(self.backbone(image).values())
        features = levels[: len(FEATURE_NAMES)]
        proposals = self.propose(image, size, levels)
        pooled = pool_regions(self.heads.box_roi_pool, features, proposals)
        logits, deltas = self.heads.box_predictor(self.heads.box_head(pooled))
        boxes = self.heads.box_coder.decode_single(deltas, proposals)
        boxes = clip_boxes(boxes.reshape(boxes.shape[0], -1, 4), size)
        return boxes, torch.softmax(logits, -1), *features

    def propose(self, image: Tensor, size: Tensor, levels: list[Tensor]) -> Tensor:
        """Return proposals [N, 4], as `RegionProposalNetwork.filter_proposals` does for one image in eval mode."""
        anchors = level_anchors(self.rpn.anchor_generator, image, levels)
        boxes, scores = [], []
        for objectness, deltas, level in zip(*self.rpn.head(levels), anchors, strict=True):
            logits = objectness.permute(0, 2, 3, 1).reshape(-1)
            logits, best = logits.topk(min_with_count(logits, self.rpn.pre_nms_top_n()))
            codes = deltas.reshape(-1, 4, *deltas.shape[-2:]).permute(2, 3, 0, 1).reshape(-1, 4)[best]
            level_boxes = clip_boxes(self.rpn.box_coder.decode_single(codes, level[best]), size)
            level_scores = torch.sigmoid(logits)
            sides = level_boxes[:, 2:] - level_boxes[:, :2]
            valid = (sides >= self.rpn.min_size).all(1) & (level_scores >= self.rpn.score_thresh)
            level_boxes, level_scores = level_boxes[valid], level_scores[valid]
            keep = nms(level_boxes, level_scores, self.rpn.nms_thresh)
            boxes.append(level_boxes[keep])
            scores.append(level_scores[keep])
        all_scores = torch.cat(scores)
        count = min_with_count(all_scores, self.rpn.post_nms_top_n())
        return torch.cat(boxes)[all_scores.topk(count)[1]]


class MaskGraph(nn.Module):
    """The second graph: the mask of each selected box, for its class."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.heads = network.roi_heads

    def forward(self, *inputs: Tensor) -> Tensor:
        *features, boxes, labels = inputs
        pooled = pool_regions(self.heads.mask_roi_pool, features, boxes)
        logits = self.heads.mask_predictor(self.heads.mask_head(pooled))
        index = labels[:, None, None, None].expand(-1, 1, logits.shape[2], logits.shape[3])
        return torch.sigmoid(logits.gather(1, index)[:, 0])


def min_with_count(values: Tensor, max_count: int) -> Any:
    """Return the smaller of `max_count` and the number of values, as a tensor, so that tracing keeps it dynamic."""
    return torch.minimum(torch._shape_as_tensor(values)[0], torch.tensor(max_count))


def clip_boxes(boxes: Tensor, size: Tensor) -> Tensor:
    """Return boxes [..., 4] clipped to an image of size (height, width)."""
    limits = size.flip(0).repeat(2).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)


def level_anchors(generator: Any, image: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
    """Return each level's anchors [H * W * A, 4].

    As in `AnchorGenerator.forward`, strides are integer quotients: for an image 800 pixels high, the stride of the
    coarsest level is 800 // 13.
    """
    grids = [level.shape[-2:] for level in levels]
    height, width = (torch.as_tensor(side) for side in image.shape[-2:])
    strides = [[height // torch.as_tensor(h), width // torch.as_tensor(w)] for h, w in grids]
    anchors: list[Tensor] = generator.grid_anchors(grids, strides)
    return anchors


def pool_regions(pooler: Any, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Pool boxes [N, 4] into [N, C, p, p], each from the level that suits its size: `MultiScaleRoIAlign` of one image.

    The strides are the true ones. torchvision derives them from the first image that it reads, which is wrong for a
    thin image: 20 pixels high, padded to 32, gives a stride of 2.
    """
    mapper = LevelMapper(POOLED_LEVELS[0], POOLED_LEVELS[-1], pooler.canonical_scale, pooler.canonical_level)
    levels = mapper([boxes]) + POOLED_LEVELS[0]
    parts, positions = [], []
    for level, feature in zip(POOLED_LEVELS, features, strict=True):
        selected = torch.where(levels == level)[0]
        regions = torch.cat([torch.zeros_like(boxes[selected, :1]), boxes[selected]], 1)
        parts.append(roi_align(feature, regions, pooler.output_size, 2**-level, pooler.sampling_ratio))
        positions.append(selected)
    return torch.cat(parts)[torch.cat(positions).argsort()]


def export_mask_rcnn(
    network: Any,
    folder: Path,
    *,
    name: str,
    architecture: str,
    classes: Sequence[str],
    description: str = "",
    licence: str = "",
    source: str = "",
    suits: tuple[Subject, ...] = (),
) -> Bundle:
    """Write a Mask R-CNN as a bundle into `folder`.

    network: a `torchvision.models.detection.MaskRCNN`.
    classes: names by index, the background first.
    name, architecture, description, licence, source, suits: fields of the manifest.
    """
    network = copy.deepcopy(network).eval()
    folder.mkdir(parents=True, exist_ok=True)
    image, size = torch.rand(EXAMPLE_SHAPE), torch.tensor(EXAMPLE_SHAPE[2:]) - 3
    axes = {"image": {2: "height", 3: "width"}, "boxes": {0: "regions"}, "scores": {0: "regions"}}
    sides = {feature: {2: f"{feature}_height", 3: f"{feature}_width"} for feature in FEATURE_NAMES}
    detector = DetectionGraph(network)
    inputs = {"image": image, "size": size}
    export_onnx(detector, folder / "model.onnx", inputs, DetectionGraph.OUTPUTS, {**axes, **sides})
    with torch.no_grad():
        features = dict(zip(FEATURE_NAMES, detector(image, size)[2:], strict=True))
    selected = {"boxes": torch.tensor([[3.0, 4.0, 90.0, 100.0]] * 2), "labels": torch.tensor([1, 1])}
    axes = {name: {0: "objects"} for name in ("boxes", "labels", "masks")}
    export_onnx(
        MaskGraph(network), folder / "masks.onnx", {**features, **selected}, ("masks",), {**axes, **sides}
    )
    transform, heads = network.transform, network.roi_heads
    manifest = InstancesManifest(
        name=name,
        kind=ModelKind.INSTANCES,
        architecture=architecture,
        description=description,
        licence=licence,
        source=source,
        suits=suits,
        classes=tuple(classes),
        resize=ResizeEntry(
            min_size=transform.min_size[-1],
            max_size=transform.max_size,
            mean=tuple(255 * value for value in transform.image_mean),
            std=tuple(255 * value for value in transform.image_std),
        ),
        nms_threshold=heads.nms_thresh,
        max_objects=heads.detections_per_img,
        files={},
    )
    return write_manifest(folder, manifest)
