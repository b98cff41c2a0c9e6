"""U-Nets of both variants become bundles that compute what their weights say; anything else is refused."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


from segserve.errors import BadInput, BrokenModel
from segserve.models.importers import compare_semantic
from segserve.models.manifest import SemanticManifest
from segserve.models.semantic_model import SemanticModel
from tests.models.importers.semantic_imports import (
    assert_computes,
    import_semantic,
    invoke_import,
    is_empty,
    save,
)
from tests.models.importers.unet_weights import (
    feature_list_weights,
    forward_feature_list,
    forward_milesial,
    milesial_weights,
)

UNETS: dict[str, tuple[dict[str, Any], Any, int, int]] = {
    "milesial, transposed": (milesial_weights(3, 2, bilinear=False, base=8), forward_milesial, 3, 2),
    "milesial, bilinear": (milesial_weights(1, 1, bilinear=True, base=8), forward_milesial, 1, 1),
    "milesial, biased": (milesial_weights(3, 1, bilinear=True, base=4, bias=True), forward_milesial, 3, 1),
    "feature list": (feature_list_weights(3, 1, [8, 16, 32, 64]), forward_feature_list, 3, 1),
    "feature list, three levels": (feature_list_weights(1, 4, [8, 16, 32]), forward_feature_list, 1, 4),
}


@pytest.mark.parametrize("name", UNETS)
def test_a_unet_of_either_variant_computes_its_weights(tmp_path: Path, name: str) -> None:
    state, forward, channels, classes = UNETS[name]
    bundle = import_semantic("unet", save({"state_dict": state, "epoch": 3}, tmp_path / "u.pth"), tmp_path)
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.input.channels, len(manifest.classes)) == (channels, classes)
    assert_computes(bundle, lambda images: forward(state, images), channels)
    bundle.verify()


@pytest.mark.parametrize("bilinear", [True, False])
def test_the_published_widths(tmp_path: Path, bilinear: bool) -> None:
    """Most public checkpoints have 64-128-256-512-1024 channels."""
    from segserve.models.importers.unet import build_unet

    network, channels, classes, depth = build_unet(milesial_weights(3, 2, bilinear=bilinear))
    assert (channels, classes, depth) == (3, 2, 4)
    network, channels, classes, depth = build_unet(feature_list_weights(3, 1, [64, 128, 256, 512]))
    assert (channels, classes, depth) == (3, 1, 4)
    assert network.bottleneck.conv[0].out_channels == 1024


BAD_UNETS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another network": ({"conv.weight": torch.zeros(3)}, "not a checkpoint of a U-Net", "inc.double_conv"),
    "a missing part": (
        {k: v for k, v in feature_list_weights(3, 1, [4, 8]).items() if k != "ups.1.conv.3.weight"},
        "lacks ups.1.conv.3.weight",
        "",
    ),
    "more than a U-Net": (
        {**feature_list_weights(3, 1, [4, 8]), "ups.9.attention.weight": torch.zeros(3)},
        "has more than ups.9.attention",
        "",
    ),
    "another shape": (
        {**milesial_weights(3, 1, bilinear=True, base=4), "up2.conv.double_conv.0.weight": torch.zeros(7)},
        "has another shape",
        "",
    ),
    "a width that only one tensor has": (
        {**feature_list_weights(3, 1, [4, 8]), "downs.1.conv.0.weight": torch.zeros(200_000, 1, 1, 1)},
        "has another shape",
        "",
    ),
    "flat convolutions": (
        {**feature_list_weights(3, 1, [4, 8]), "final_conv.weight": torch.zeros(3)},
        "final_conv.weight is",
        "two-dimensional",
    ),
    "two channels": (feature_list_weights(2, 1, [4, 8]), "takes 2 channels", "1 channel .grey. or 3"),
    "no levels": (
        {**feature_list_weights(3, 1, [4, 8]), "downs.7.conv.0.weight": torch.zeros(4, 4, 3, 3)},
        "in order",
        "",
    ),
}


@pytest.mark.parametrize("name", BAD_UNETS)
def test_a_wrong_unet_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    state, message, remedy = BAD_UNETS[name]
    with pytest.raises(BadInput, match=message) as caught:
        import_semantic("unet", save(state, tmp_path / "u.pth"), tmp_path)
    assert caught.value.field == "checkpoint"
    import re

    assert re.search(remedy, caught.value.remedy)
    assert is_empty(tmp_path / "models")


def test_an_export_that_disagrees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SemanticModel.run
    monkeypatch.setattr(compare_semantic.SemanticModel, "run", lambda *args: original(*args) * 1.001)
    with pytest.raises(BrokenModel, match=r"network .* differs"):
        import_semantic("unet", save(feature_list_weights(1, 1, [4, 8]), tmp_path / "u.pth"), tmp_path)
    assert is_empty(tmp_path / "models")


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "e.pth")
    result = invoke_import(tmp_path, "unet", str(tmp_path / "e.pth"))
    assert isinstance(result.exception, BadInput)
