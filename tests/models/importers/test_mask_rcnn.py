"""Checkpoints of torchvision's Mask R-CNN, any version and any number of classes, become bundles."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
from torchvision.ops import FrozenBatchNorm2d
from typer.testing import CliRunner

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import Bundle
from segserve.models.cli import app
from segserve.models.importers import compare_instances, mask_rcnn
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.instances_model import InstancesModel
from segserve.models.manifest import InstancesManifest
from tests.instances.networks import small, untrained

CLASS_COUNT = 4  # the background included


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small networks of the same parts in place of ResNets.

    A frozen one has the norms that torchvision makes for pretrained backbones.
    """
    builders = {
        "resnet50_fpn": untrained,
        "resnet50_fpn_coco": build_frozen,
        "resnet50_fpn_imagenet": build_frozen,
    }
    monkeypatch.setattr(mask_rcnn, "VARIANTS", {**mask_rcnn.VARIANTS, **builders})


def build_frozen(classes: int) -> Any:
    network = untrained(classes)
    for stage in network.backbone.body.values():
        stage[1] = FrozenBatchNorm2d(stage[1].num_features, eps=0.0)
    return network


@cache
def network() -> Any:
    return small(CLASS_COUNT, seed=3)


def weights() -> dict[str, Any]:
    return {key: value.clone() for key, value in network().state_dict().items()}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def import_mask_rcnn(content: Any, folder: Path, **options: Any) -> Bundle:
    return import_checkpoint(
        "mask_rcnn", save(content, folder / "c.pth"), "mine", folder / "models", **options
    )


def manifest(bundle: Bundle) -> InstancesManifest:
    return bundle.expect(InstancesManifest)


def test_a_checkpoint_becomes_a_bundle_with_its_classes(tmp_path: Path) -> None:
    bundle = import_mask_rcnn(weights(), tmp_path, classes=["cat", "dog", "bird"])
    bundle.verify()
    fields = manifest(bundle)
    assert fields.classes == ("__background__", "cat", "dog", "bird")
    assert fields.architecture == "mask_rcnn_resnet50_fpn"
    assert sorted(fields.files) == ["masks.onnx", "model.onnx"]
    assert (fields.score_threshold, fields.nms_threshold, fields.mask_threshold, fields.max_objects) == (
        0.5,
        0.5,
        0.5,
        100,
    )
    assert (fields.resize.min_size, fields.resize.max_size) == (128, 224)


def test_the_command_line_takes_classes(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "c.pth")
    arguments = ["import", "mask_rcnn", str(path), "--name", "mine", "--classes", "cat, dog,bird"]
    result = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert manifest(Bundle(tmp_path / "models" / "mine")).classes[1:] == ("cat", "dog", "bird")


def test_classes_without_names_are_coco_s_or_numbered() -> None:
    assert mask_rcnn.name_classes(91, [])[:3] == ("__background__", "person", "bicycle")
    assert mask_rcnn.name_classes(3, []) == ("__background__", "class_1", "class_2")


@pytest.mark.parametrize("names", [["cat"], ["a", "b", "c", "d"], ["cat", "", "dog"], ["cat", "cat", "dog"]])
def test_names_that_do_not_fit_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        import_mask_rcnn(weights(), tmp_path, classes=names)
    assert caught.value.field == "classes"
    assert not list((tmp_path / "models").glob("mine*"))


def test_sam_takes_no_classes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no use for classes"):
        import_checkpoint("sam", tmp_path / "c.pth", "mine", tmp_path, classes=["cat"])


def use_old_names(state: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors under torchvision's names before 0.14, which its COCO checkpoint has."""
    network = {key: key for key in state}
    for key in state:
        parts = key.split(".")
        if key.startswith("roi_heads.mask_head."):
            network[key] = f"roi_heads.mask_head.mask_fcn{int(parts[2]) + 1}.{parts[-1]}"
        elif key.startswith("rpn.head.conv."):
            network[key] = f"rpn.head.conv.{parts[-1]}"
        elif "_blocks." in key:
            network[key] = ".".join([*parts[:4], parts[-1]])
    assert sum(new != key for key, new in network.items()) == 20
    return {network[key]: value for key, value in state.items()}


def test_keys_of_older_versions_are_renamed() -> None:
    assert mask_rcnn.rename_old_keys(use_old_names(weights())).keys() == weights().keys()
    assert mask_rcnn.rename_old_keys(weights()).keys() == weights().keys()


def test_frozen_statistics_are_coco_s_by_default() -> None:
    state = {key: value for key, value in weights().items() if not key.endswith("num_batches_tracked")}
    assert mask_rcnn.build_mask_rcnn(state, None)[1] == "mask_rcnn_resnet50_fpn_coco"
    assert mask_rcnn.build_mask_rcnn(state, "resnet50_fpn_imagenet")[1] == "mask_rcnn_resnet50_fpn_imagenet"


@pytest.mark.parametrize(("variant", "eps"), [("resnet50_fpn_coco", 0.0), ("resnet50_fpn_imagenet", 1e-5)])
def test_frozen_norms_have_torchvisions_eps(variant: str, eps: float) -> None:
    builder: Callable[[int], Any] = mask_rcnn.build_frozen(eps)
    norms = [m for m in builder(2).modules() if isinstance(m, FrozenBatchNorm2d | nn.BatchNorm2d)]
    assert len(norms) == 53
    assert {norm.eps for norm in norms} == {eps}


def test_the_second_version_is_recognised_by_its_heads() -> None:
    network = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=2)
    assert mask_rcnn.recognise_variant(network.state_dict()) == "resnet50_fpn_v2"


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "something else": (lambda: {"conv.weight": torch.zeros(3)}, "not a checkpoint of torchvision"),
    "no scores": (lambda: {"roi_heads.box_head.fc6.weight": torch.zeros(3)}, "lacks roi_heads.box_predictor"),
    "a missing key": (
        lambda: {k: v for k, v in weights().items() if "mask_fcn_logits" not in k},
        "lacks roi_heads.mask",
    ),
    "another shape": (
        lambda: {**weights(), "rpn.head.cls_logits.bias": torch.zeros(7)},
        r"\(7,\), expected \(3,\)",
    ),
    "more than it": (
        lambda: {**weights(), "roi_heads.keypoint_head.weight": torch.zeros(7)},
        "has more than .*keypoint",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        import_mask_rcnn(content(), tmp_path, variant="resnet50_fpn" if name == "no scores" else None)
    assert not [p for p in (tmp_path / "models").rglob("*") if p.name != ".incoming"]


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no variant 'resnet18'"):
        import_mask_rcnn(weights(), tmp_path, variant="resnet18")


@pytest.mark.parametrize("part", ["detect", "predict_masks"])
def test_an_export_that_disagrees_with_the_library_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    original = getattr(InstancesModel, part)

    def wrong(*args: Any) -> Any:
        answer = original(*args)
        if part == "detect":
            answer.scores[:, 1] += np.float32(0.01)
            return answer
        return answer * np.float32(1.01)

    monkeypatch.setattr(compare_instances.InstancesModel, part, wrong)
    with pytest.raises(BrokenModel, match=r"exported (boxes and scores|masks) differs"):
        import_mask_rcnn(weights(), tmp_path)
    assert not list((tmp_path / "models").glob("mine*"))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = weights()
    state["backbone.fpn.inner_blocks.0.0.weight"][:] = torch.nan
    with pytest.raises(BrokenModel):
        import_mask_rcnn(state, tmp_path)
