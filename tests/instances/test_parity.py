"""The same objects as torchvision's own network under the same weights: boxes, scores, classes, masks."""

from typing import Any

import numpy as np
import pytest
import torch

from segserve.errors import TooLarge
from segserve.instances.box_nms import DetectionThresholds, select_boxes
from segserve.instances.paste_masks import scale_boxes
from segserve.instances.preprocess import resize_and_normalise
from segserve.instances.segmenter import find_objects
from segserve.masks import crop
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.instances_model import InstancesModel
from segserve.models.runtime import RuntimeOptions
from segserve.timing import Timings
from segserve.types import Float32, Int64, SegmentedObject, Size, UInt8
from tests.instances.networks import CLASSES, full
from tests.models.networks import noise_image

TOLERANCE = 1e-4  # of scores, and of boxes over the image's longer side
LIMITS = DetectionThresholds(score=0.3, nms=0.4, mask=0.5, max_objects=60)


def noise(height: int, width: int) -> UInt8:
    """Nowhere even: where regions are equally good, nothing says which of them are looked at."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def theirs(network: Any, image: UInt8, limits: DetectionThresholds) -> dict[str, Any]:
    """torchvision's answer, with masks [M, H, W] of probabilities."""
    heads = network.roi_heads
    heads.score_thresh, heads.nms_thresh, heads.detections_per_img = (
        limits.score,
        limits.nms,
        limits.max_objects,
    )
    with torch.no_grad():
        [found] = network([torch.from_numpy(image).permute(2, 0, 1) / 255])
    return {name: value.numpy() for name, value in found.items()}


def assert_same(
    model: InstancesModel, network: Any, image: UInt8, limits: DetectionThresholds, at_least: int
) -> None:
    expected, size = theirs(network, image, limits), Size(*image.shape[:2])
    assert len(expected["scores"]) >= at_least
    tensor, shown = resize_and_normalise(image, model.manifest.resize)
    detected = model.detect(tensor, shown)
    chosen = select_boxes(detected.boxes, detected.scores, limits)
    assert np.abs(chosen.scores - expected["scores"]).max() < TOLERANCE
    order = pairs(chosen.labels, expected["labels"], chosen.scores, expected["scores"])
    boxes = scale_boxes(chosen.boxes, shown, size)[order]
    assert np.abs(boxes - expected["boxes"]).max() < TOLERANCE * max(image.shape)

    masks = expected["masks"][:, 0] >= limits.mask
    objects = find_objects(image, model, limits, Timings())
    assert len(objects) == masks.any(axis=(1, 2)).sum()
    for score, label, box, mask, probabilities in zip(
        expected["scores"], expected["labels"], expected["boxes"], masks, expected["masks"][:, 0], strict=True
    ):
        if mask.any():
            [found] = [
                each
                for each in objects
                if np.abs(corners(each) - box).max() < TOLERANCE * max(image.shape)
                and each.category == model.manifest.classes[label]
            ]
            assert abs(found.score - score) < TOLERANCE
            differs = crop.to_mask(found.crop) != mask
            assert not differs[np.abs(probabilities - limits.mask) > TOLERANCE].any()


def pairs(ours: Int64, theirs: Int64, our_scores: Float32, their_scores: Float32) -> list[int]:
    """Which of ours is which of theirs: objects of nearly the same score may have changed places."""
    left, order = list(range(len(ours))), []
    for label, score in zip(theirs, their_scores, strict=True):
        index = next(i for i in left if ours[i] == label and abs(our_scores[i] - score) < TOLERANCE)
        left.remove(index)
        order.append(index)
    return order


def corners(found: SegmentedObject) -> Float32:
    assert found.box is not None
    return np.array([found.box.x0, found.box.y0, found.box.x1, found.box.y1], np.float32)


@pytest.mark.parametrize(
    ("height", "width"), [(120, 160), (128, 128), (300, 200), (72, 500), (600, 86), (1000, 700)]
)
def test_objects_are_torchvisions(model: InstancesModel, network: Any, height: int, width: int) -> None:
    assert_same(model, network, noise(height, width), LIMITS, at_least=20)


@pytest.mark.parametrize(
    "limits",
    [
        DetectionThresholds(score=0.0, nms=0.5, mask=0.5, max_objects=100),
        DetectionThresholds(score=0.6, nms=0.05, mask=0.3, max_objects=1000),
        DetectionThresholds(score=0.5, nms=1.0, mask=0.9, max_objects=7),
    ],
)
def test_every_threshold_is_torchvisions(
    model: InstancesModel, network: Any, limits: DetectionThresholds
) -> None:
    assert_same(model, network, noise(120, 160), limits, at_least=5)


@pytest.mark.parametrize(("height", "width"), [(3, 2000), (2000, 1), (1, 1)])
def test_extreme_shapes_are_answered(model: InstancesModel, height: int, width: int) -> None:
    """Where torchvision fails: it makes images of no height, or takes the levels' strides from the padding."""
    objects = find_objects(noise_image(height, width), model, LIMITS, Timings())
    for each in objects:
        assert each.crop.size == Size(height, width)
        assert each.box is not None
        assert 0 <= each.box.x0 <= each.box.x1 <= width
        assert 0 <= each.box.y0 <= each.box.y1 <= height


def test_nothing_found_is_an_empty_list(model: InstancesModel) -> None:
    limits = DetectionThresholds(score=1.0, nms=0.5, mask=0.5, max_objects=100)
    assert find_objects(noise_image(100, 100), model, limits, Timings()) == []


def test_masks_that_would_fill_the_memory_are_refused(
    model: InstancesModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segserve.instances.segmenter.MAX_MASK_PIXELS", 10_000)
    with pytest.raises(TooLarge, match="Ask for fewer objects"):
        find_objects(noise(200, 200), model, LIMITS, Timings())


@pytest.mark.large
@pytest.mark.parametrize("variant", ["resnet50_fpn", "resnet50_fpn_v2"])
def test_the_published_networks_are_torchvisions(tmp_path: Any, variant: str) -> None:
    network = full(variant)
    bundle = export_mask_rcnn(network, tmp_path / "b", name="b", architecture=variant, classes=CLASSES)
    model = InstancesModel(bundle, RuntimeOptions(threads=2))
    for shape in ((100, 150), (240, 130)):
        assert_same(model, network, noise(*shape), LIMITS, at_least=5)
