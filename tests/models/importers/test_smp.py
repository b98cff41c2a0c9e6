"""Models of segmentation-models-pytorch become bundles that compute the same; nothing is downloaded."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
smp = pytest.importorskip("segmentation_models_pytorch")


from segserve.errors import BadInput
from segserve.models.manifest import Activation, SemanticManifest
from tests.models.importers.semantic_imports import (
    assert_computes,
    import_semantic,
    is_empty,
    randomise,
    save,
)

VARIANTS = {
    "unet:resnet18": (3, 1),
    "unetplusplus:resnet18": (1, 2),
    "deeplabv3plus:resnet18": (3, 3),
    "segformer:mit_b0": (3, 2),
    "unet:mit_b0": (3, 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_smp_models_compute_the_same_as_their_bundles(tmp_path: Path, variant: str) -> None:
    channels, classes = VARIANTS[variant]
    architecture, _, encoder = variant.partition(":")
    network = randomise(
        smp.create_model(architecture, encoder, encoder_weights=None, in_channels=channels, classes=classes)
    )
    path = save(
        {"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "c.ckpt"
    )
    bundle = import_semantic("smp", path, tmp_path, variant=variant)
    manifest = bundle.expect(SemanticManifest)
    assert (bundle.manifest.architecture, manifest.input.channels, len(manifest.classes)) == (
        variant,
        channels,
        classes,
    )
    assert_computes(bundle, network, channels)


def test_a_folder_that_smp_saved_needs_no_options(tmp_path: Path) -> None:
    network = randomise(
        smp.Unet(
            "resnet18",
            encoder_weights=None,
            classes=2,
            decoder_channels=[64, 32, 16, 8, 8],
            activation="sigmoid",
        )
    )
    network.save_pretrained(tmp_path / "saved")
    bundle = import_semantic("smp", tmp_path / "saved", tmp_path, fields={"classes": ["a", "b"]})
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.activation, manifest.architecture) == (Activation.NONE, "unet:resnet18")
    assert manifest.input.normalise.mean == (0.485, 0.456, 0.406)
    assert_computes(bundle, network, 3)


def test_smp_never_downloads_anything(tmp_path: Path) -> None:
    path = save({"encoder.conv1.weight": torch.zeros(3)}, tmp_path / "c.pth")
    for variant, message in (
        (None, "do not tell"),
        ("resnet18", "do not tell"),
        ("magic:resnet18", "do not tell"),
        ("unet:magic", "no encoder 'magic'"),
        ("unet:tu-hf-hub:someone/something", "no encoder"),
        ("unet:resnet18", "lacks"),
    ):
        with pytest.raises(BadInput, match=message):
            import_semantic("smp", path, tmp_path, variant=variant)
    for content in ("{}", "[1]", "{", '{"_model_class": "Unet", "encoder_name": "tu-hf-hub:a/b"}'):
        (tmp_path / "saved").mkdir(exist_ok=True)
        (tmp_path / "saved" / "config.json").write_text(content)
        with pytest.raises(BadInput):
            import_semantic("smp", tmp_path / "saved", tmp_path)
    assert is_empty(tmp_path / "models")


@pytest.mark.parametrize("activation", ["identity", "tanh", "logsoftmax"])
def test_smp_activations_become_none_or_are_refused(tmp_path: Path, activation: str) -> None:
    smp.Unet("resnet18", encoder_weights=None, classes=2, activation=activation).save_pretrained(
        tmp_path / "s"
    )
    if activation == "identity":
        bundle = import_semantic("smp", tmp_path / "s", tmp_path, fields={"classes": ["a", "b"]})
        assert bundle.expect(SemanticManifest).activation is Activation.SOFTMAX
        return
    with pytest.raises(BadInput, match="does not return probabilities"):
        import_semantic("smp", tmp_path / "s", tmp_path, fields={"classes": ["a", "b"]})
