"""A semantic manifest has the user's fields first, then the importer's, then defaults; wrong fields are refused."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.manifest import Activation, SemanticManifest
from tests.models.importers.semantic_imports import import_semantic, invoke_import, is_empty, save
from tests.models.importers.unet_weights import feature_list_weights


def test_defaults_of_one_class_and_of_several(tmp_path: Path) -> None:
    one = import_semantic("unet", save(feature_list_weights(1, 1, [4, 8]), tmp_path / "1.pth"), tmp_path)
    manifest = one.expect(SemanticManifest)
    assert (manifest.classes, manifest.activation, manifest.background, manifest.multiple) == (
        ("object",),
        Activation.SIGMOID,
        None,
        4,
    )
    several = save(feature_list_weights(1, 3, [4, 8]), tmp_path / "3.pth")
    manifest = import_semantic("unet", several, tmp_path, replace=True).expect(SemanticManifest)
    assert (manifest.activation, manifest.background) == (Activation.SOFTMAX, 0)
    fields = {"classes": ["cell", "border", "background"]}
    manifest = import_semantic("unet", several, tmp_path, replace=True, fields=fields).expect(
        SemanticManifest
    )
    assert (manifest.classes[2], manifest.background) == ("background", 2)


def test_the_command_line_takes_classes_and_a_manifest(tmp_path: Path) -> None:
    path = save(feature_list_weights(3, 2, [4, 8]), tmp_path / "u.pth")
    (tmp_path / "m.yaml").write_text(
        "activation: sigmoid\nthresholds: [0.3, 0.6]\ntile: [64, 64]\n"
        "input: {clahe: {clip_limit: 2}, normalise: {method: percentile, low: 1, high: 99.8}}\n"
        "postprocess: {min_size: 20}\n"
    )
    result = invoke_import(
        tmp_path, "unet", str(path), "--classes", "cell, border", "--manifest", str(tmp_path / "m.yaml")
    )
    assert result.exit_code == 0, result.output
    assert "classes: cell, border (sigmoid)" in result.output
    manifest = Bundle(tmp_path / "models" / "mine").expect(SemanticManifest)
    assert (manifest.thresholds, manifest.postprocess.min_size) == ((0.3, 0.6), 20)
    assert (manifest.input.channels, manifest.input.clahe.clip_limit) == (3, 2)


BAD_MANIFESTS = {
    "a field that is none": ("magic: 1", "magic"),
    "a field of the bundle": ("name: other", "name"),
    "no mapping": ("- 1", "nothing"),
    "no YAML": ("{", "cannot be read"),
    "too few classes": ("classes: [a]", "2 channels, and 1 classes"),
    "other channels": ("input: {channels: 1}", "takes 3 channels, not 1"),
    "a wrong value": ("overlap: 2", "overlap"),
    "no input": ("input: 3", "input"),
    "no list": ("classes: 5", "not a list"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_wrong_manifest_is_refused(tmp_path: Path, name: str) -> None:
    content, message = BAD_MANIFESTS[name]
    path = save(feature_list_weights(3, 2, [4, 8]), tmp_path / "u.pth")
    (tmp_path / "m.yaml").write_text(content)
    result = invoke_import(tmp_path, "unet", str(path), "--manifest", str(tmp_path / "m.yaml"))
    assert isinstance(result.exception, BadInput)
    assert message in str(result.exception)
    assert is_empty(tmp_path / "models")
