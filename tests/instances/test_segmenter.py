"""The same objects as torchvision's own network under the same weights: boxes, scores, classes, masks."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segserve.errors import TooLarge
from segserve.instances.box_nms import DetectionThresholds, select_boxes
from segserve.instances.paste_masks import scale_boxes
from segserve.instances.preprocess import resize_and_normalise
from segserve.instances.segmenter import find_objects
from segserve.masks import crop
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.instances_model import InstancesModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import Float32, SegmentedObject, Size, UInt8
from tests.instances.networks import CLASSES, full
from tests.models.networks import noise_image
from tests.rounding import bilinear_error, simulated_error, undecided

LIMITS = DetectionThresholds(score=0.3, nms=0.4, mask=0.5, max_objects=60)


def noise(height: int, width: int) -> UInt8:
    """Return an image without even areas: regions with equal scores could come in any order."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run_torchvision(
    network: Any, tensor: Float32, visible: Size, limits: DetectionThresholds
) -> dict[str, NDArray[Any]]:
    """Return torchvision's objects for a resized input, in the dtype of the network.

    They are boxes [M, 4] in pixels of the input, scores [M], labels [M], and masks [M, m, m] of probabilities, not yet
    pasted.
    """
    heads = network.roi_heads
    heads.score_thresh, heads.nms_thresh = limits.score, limits.nms
    heads.detections_per_img = limits.max_objects
    images = ImageList(
        torch.from_numpy(tensor).to(next(network.parameters()).dtype), [(visible.height, visible.width)]
    )
    with torch.no_grad():
        features = network.backbone(images.tensors)
        proposals, _ = network.rpn(images, features)
        [result], _ = heads(features, proposals, images.image_sizes)
    return {name: value.numpy() for name, value in result.items()} | {"masks": result["masks"][:, 0].numpy()}


def assert_same(
    model: InstancesModel, network: Any, image: UInt8, limits: DetectionThresholds, at_least: int
) -> None:
    """Both are as near to torchvision in float64 as float32 allows; resizing and pasting have tests of their own."""
    tensor, visible = resize_and_normalise(image, model.manifest.resize)
    in_float64 = copy.deepcopy(network).double()

    def run() -> dict[str, NDArray[Any]]:
        return run_torchvision(in_float64, tensor, visible, limits)

    exact, errors = run(), simulated_error(in_float64, run)
    assert len(exact["scores"]) >= at_least
    assert errors["scores"] < 1e-4, "the objects of this image depend on rounding, so they prove nothing"

    assert_near(run_torchvision(network, tensor, visible, limits), exact, errors)
    detected = model.detect(tensor, visible)
    selected = select_boxes(detected.boxes, detected.scores, limits)
    masks = model.predict_masks(detected.features, selected.boxes, selected.labels)
    result = {"boxes": selected.boxes, "scores": selected.scores, "labels": selected.labels, "masks": masks}
    assert_near(result, exact, errors)

    boxes = scale_boxes(selected.boxes, visible, Size(*image.shape[:2]))
    pasted = paste_masks_in_image(
        torch.from_numpy(masks)[:, None].double(), torch.from_numpy(boxes), image.shape[:2]
    )[:, 0].numpy()
    filled = [index for index in range(len(boxes)) if (pasted[index] >= limits.mask).any()]
    objects = find_objects(image, model, limits, Timings())
    assert len(objects) == len(filled)
    for segmented, index in zip(objects, filled, strict=True):
        assert segmented.category == model.manifest.classes[selected.labels[index]]
        assert segmented.score == selected.scores[index]
        assert np.array_equal(corners(segmented), boxes[index])
        differs = crop.to_mask(segmented.crop) != (pasted[index] >= limits.mask)
        error = bilinear_error(np.pad(masks[index], 1))
        assert not (differs & ~undecided(pasted[index], error, limits.mask)).any()


def assert_near(
    result: Mapping[str, NDArray[Any]], exact: Mapping[str, NDArray[Any]], errors: Mapping[str, float]
) -> None:
    """The same objects to within the errors; those of nearly the same score may have changed places."""
    assert len(result["scores"]) == len(exact["scores"])
    left = list(range(len(exact["scores"])))
    for index, label in enumerate(result["labels"]):
        same = min(
            (other for other in left if exact["labels"][other] == label),
            key=lambda other: (
                np.abs(result["masks"][index] - exact["masks"][other]).max()
                + np.abs(result["boxes"][index] - exact["boxes"][other]).max()
            ),
        )
        for name in ("scores", "boxes", "masks"):
            assert np.abs(result[name][index] - exact[name][same]).max() <= errors[name], (name, index)
        left.remove(same)


def corners(segmented: SegmentedObject) -> Float32:
    assert segmented.box is not None
    return np.array([segmented.box.x0, segmented.box.y0, segmented.box.x1, segmented.box.y1], np.float32)


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
def test_extreme_shapes_are_segmented(model: InstancesModel, height: int, width: int) -> None:
    """Where torchvision fails: it makes images of no height, or takes the levels' strides from the padding."""
    objects = find_objects(noise_image(height, width), model, LIMITS, Timings())
    for each in objects:
        assert each.crop.size == Size(height, width)
        assert each.box is not None
        assert 0 <= each.box.x0 <= each.box.x1 <= width
        assert 0 <= each.box.y0 <= each.box.y1 <= height


def test_an_image_without_objects_gives_an_empty_list(model: InstancesModel) -> None:
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
