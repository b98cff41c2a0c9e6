"""The comparison of an exported Mask R-CNN with torchvision's own: features, boxes, scores and masks on noise."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from segserve.models.bundle import Bundle
from segserve.models.importers.compare_arrays import check_error, error_over_max
from segserve.models.instances_model import FEATURE_NAMES, InstancesModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Size

# Height and width of the noise, and of the part of it that is the image; the rest is padding.
SHAPE = (256, 320)
SIZE = Size(250, 301)
MASK_COUNT = 8
# Largest error over the largest value; of boxes, over the longer side.
TOLERANCE = 1e-3
# Of two regions with nearly equal scores, rounding decides which one is among the best.
MAX_UNMATCHED_SHARE = 0.01


def compare_mask_rcnn(bundle: Bundle, network: Any) -> None:
    """Run the bundle and torchvision's network on noise. Raises BrokenModel, naming what differs by how much."""
    model = InstancesModel(bundle, RuntimeOptions.for_trial())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *SHAPE, generator=generator)
    corners = torch.rand(MASK_COUNT, 2, generator=generator) * 150
    boxes = torch.cat([corners, corners + 20 + torch.rand(MASK_COUNT, 2, generator=generator) * 80], 1)
    labels = torch.arange(MASK_COUNT) % (network.roi_heads.box_predictor.cls_score.out_features - 1) + 1
    with torch.no_grad():
        features, regions = run_library_regions(network, image)
        masks = run_library_masks(network, features, boxes, labels)
    ours = model.detect(image.numpy(), SIZE)
    theirs = {name: feature.numpy() for name, feature in zip(FEATURE_NAMES, features.values(), strict=False)}
    for name, expected in theirs.items():
        check_error(f"feature {name}", error_over_max(ours.features[name], expected), TOLERANCE)
    share = unmatched_share(region_rows(ours.boxes, ours.scores), regions)
    check_error("boxes and scores", share, MAX_UNMATCHED_SHARE)
    our_masks = model.predict_masks(theirs, boxes.numpy(), labels.numpy())
    check_error("masks", error_over_max(our_masks, masks.numpy()), TOLERANCE)


def run_library_regions(network: Any, image: Tensor) -> tuple[dict[str, Tensor], NDArray[Any]]:
    """Return the library's own features, and its regions as `region_rows` returns them."""
    sizes, heads = [(SIZE.height, SIZE.width)], network.roi_heads
    features = network.backbone(image)
    proposals, _ = network.rpn(ImageList(image, sizes), features)
    logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, sizes)))
    boxes = heads.box_coder.decode(deltas, proposals).reshape(len(logits), -1, 4)
    inside = torch.minimum(boxes.clamp(min=0), torch.tensor([SIZE.width, SIZE.height] * 2))
    return features, region_rows(inside.numpy(), torch.softmax(logits, -1).numpy())


def run_library_masks(network: Any, features: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """Return the library's own masks [M, m, m] for boxes [M, 4] and labels [M]."""
    heads = network.roi_heads
    pooled = heads.mask_roi_pool(features, [boxes], [(SIZE.height, SIZE.width)])
    logits = heads.mask_predictor(heads.mask_head(pooled))
    return torch.sigmoid(logits[torch.arange(len(boxes)), labels])


def region_rows(boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    """Return a row for each of N regions: the classes' boxes [N, C, 4], from 0 to about 1, and scores [N, C]."""
    return np.concatenate([boxes.reshape(len(boxes), -1) / max(SHAPE), scores], axis=1)


def unmatched_share(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return the share of regions that the other side does not have, in any order; the larger one of both sides."""
    distances = cdist(theirs, ours, "chebyshev")
    return max(float((distances.min(axis) > TOLERANCE).mean()) for axis in (0, 1))
