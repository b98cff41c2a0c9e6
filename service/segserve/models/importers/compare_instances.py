"""Is an exported Mask R-CNN the one that torchvision computes?"""

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
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.settings import count_cores
from segserve.types import Size

SHAPE, SIZE = (256, 320), Size(250, 301)  # of the noise, and of the part of it that stands for the image
MASKS = 8
TOLERANCE = 1e-3  # largest error over the largest value; of boxes, over the longer side
UNLIKE = 0.01  # of the regions: where two are nearly as good, rounding decides which is among the best


def compare_mask_rcnn(bundle: Bundle, network: Any) -> None:
    """Run both on noise. Raises BrokenModel, naming what differs by how much."""
    model = InstancesModel(bundle, RuntimeOptions(threads=count_cores()))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *SHAPE, generator=generator)
    corners = torch.rand(MASKS, 2, generator=generator) * 150
    boxes = torch.cat([corners, corners + 20 + torch.rand(MASKS, 2, generator=generator) * 80], 1)
    labels = torch.arange(MASKS) % (network.roi_heads.box_predictor.cls_score.out_features - 1) + 1
    with torch.no_grad():
        features, regions = library_regions(network, image)
        masks = library_masks(network, features, boxes, labels)
    ours = model.detect(image.numpy(), SIZE)
    theirs = {name: feature.numpy() for name, feature in zip(FEATURE_NAMES, features.values(), strict=False)}
    for name, expected in theirs.items():
        check_error(f"feature {name}", error_over_max(ours.features[name], expected), TOLERANCE)
    check_error("boxes and scores", unmatched_share(region_rows(ours.boxes, ours.scores), regions), UNLIKE)
    found = model.predict_masks(theirs, boxes.numpy(), labels.numpy())
    check_error("masks", error_over_max(found, masks.numpy()), TOLERANCE)


def library_regions(network: Any, image: Tensor) -> tuple[dict[str, Tensor], NDArray[Any]]:
    """The library's own features, and its regions as `region_rows`."""
    sizes, heads = [(SIZE.height, SIZE.width)], network.roi_heads
    features = network.backbone(image)
    proposals, _ = network.rpn(ImageList(image, sizes), features)
    logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, sizes)))
    boxes = heads.box_coder.decode(deltas, proposals).reshape(len(logits), -1, 4)
    inside = torch.minimum(boxes.clamp(min=0), torch.tensor([SIZE.width, SIZE.height] * 2))
    return features, region_rows(inside.numpy(), torch.softmax(logits, -1).numpy())


def library_masks(network: Any, features: dict[str, Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """The library's own masks [M, m, m] of boxes [M, 4]."""
    heads = network.roi_heads
    pooled = heads.mask_roi_pool(features, [boxes], [(SIZE.height, SIZE.width)])
    logits = heads.mask_predictor(heads.mask_head(pooled))
    return torch.sigmoid(logits[torch.arange(len(boxes)), labels])


def region_rows(boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    """A row for each of N regions: the classes' boxes [N, C, 4], from 0 to about 1, and scores [N, C]."""
    return np.concatenate([boxes.reshape(len(boxes), -1) / max(SHAPE), scores], axis=1)


def unmatched_share(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The share of regions that the other side does not have, whatever their order."""
    distances = cdist(theirs, ours, "chebyshev")
    return max(float((distances.min(axis) > TOLERANCE).mean()) for axis in (0, 1))
