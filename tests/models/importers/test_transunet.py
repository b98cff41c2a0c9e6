"""TransUNets become bundles that compute what their weights say; anything else is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.errors import BadInput
from segserve.models.importers.transunet import read_shape
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.networks.transunet import TransUNet, TransUnetShape
from tests.models.importers.semantic_imports import import_semantic, is_empty, run_model, save
from tests.models.importers.transunet_weights import forward_transunet, transunet_weights

SMALL: dict[str, Any] = {
    "image_px": 64, "width": 32, "units": (1, 2, 1), "hidden": 128, "layers": 2, "mlp": 96, "bridge": 24,
    "decoder": (20, 16, 12, 8),
}  # fmt: skip
POSITIONS = "transformer.embeddings.position_embeddings"


def import_transunet(state: dict[str, Any], tmp_path: Path, **fields: Any) -> Any:
    path = save(state, tmp_path / "epoch_149.pth")
    return import_semantic("transunet", path, tmp_path, fields={"tile": (64, 64), **fields})


@pytest.mark.parametrize("skips", [3, 1])
def test_a_transunet_computes_its_weights(tmp_path: Path, skips: int) -> None:
    """Saved by data parallel training, as the published code does on several GPUs."""
    state = transunet_weights(3, **SMALL, skips=skips)
    bundle = import_transunet({f"module.{key}": value for key, value in state.items()}, tmp_path)
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.tile, manifest.fixed, manifest.activation) == ((64, 64), True, Activation.SOFTMAX)
    assert manifest.classes == ("background", "class 1", "class 2")
    images = torch.randn(2, 3, 64, 64)
    expected = forward_transunet(state, images, heads=2, skips=skips).numpy()
    actual = run_model(bundle, images)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()
    bundle.verify()


def test_the_published_shape() -> None:
    """R50-ViT-B_16, trained on the nine classes of Synapse: 105.3 million parameters."""
    weights = transunet_weights(9, filled=False)
    shape, classes = read_shape({key: value.numpy() for key, value in weights.items()})
    assert (shape, classes) == (TransUnetShape(), 9)
    with torch.device("meta"):
        network = TransUNet(classes, shape)
    assert sum(each.numel() for each in network.parameters()) == pytest.approx(105.3e6, rel=1e-3)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in weights.items()}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in transunet_weights(2, **SMALL).items() if name != key}


def with_tensor(key: str, *shape: int) -> dict[str, Any]:
    return {**transunet_weights(2, **SMALL), key: torch.zeros(*shape)}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no ResNet": (without("transformer.embeddings.hybrid_model.root.conv.weight"), "lacks"),
    "a unit is incomplete": (
        without("transformer.embeddings.hybrid_model.body.block2.unit2.conv3.weight"),
        "lacks",
    ),
    "tokens that make no square": (with_tensor(POSITIONS, 1, 15, 128), "15 tokens"),
    "positions without channels": (with_tensor(POSITIONS, 16), "tokens"),
    "half a head": (with_tensor(POSITIONS, 1, 16, 96), "96 channels"),
    "channels that only one tensor has": (with_tensor(POSITIONS, 1, 16, 64_000), "has another shape"),
    "an image of 2 K": (with_tensor(POSITIONS, 1, 128 * 128, 64), "2048 x 2048"),
    "an adapter": (with_tensor("transformer.encoder.layer.0.attn.lora", 3), "has more than"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_weights_are_refused(tmp_path: Path, name: str) -> None:
    state, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        import_transunet(state, tmp_path)
    assert is_empty(tmp_path / "models")


def test_it_takes_no_other_size(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="only 64 x 64"):
        import_transunet(transunet_weights(2, **SMALL), tmp_path, tile=(128, 128))
