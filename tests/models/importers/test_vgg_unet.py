"""A pickled U-Net is imported by its tensors alone, and computes what the network computes."""

import copy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.export.write_templates import make_templates, randomise
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.importers.vgg_unet import MODULES
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.networks import vgg_unet
from segserve.models.templates.graph_template import SUFFIX, TEMPLATES_FOLDER, compress_template
from tests.models.importers.semantic_imports import is_empty, run_model


@pytest.fixture(scope="module")
def network() -> Any:
    network = vgg_unet.VggUNet()
    randomise(network, 0)
    return network.eval()


@pytest.fixture(scope="module")
def pickled(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a whole, in torch's old format, its classes under the names of the published file."""
    path = tmp_path_factory.mktemp("pickled") / "lungs.pt"
    module: Any = types.ModuleType("lung_segmentation")
    module.PretrainedUNet = type("PretrainedUNet", (vgg_unet.VggUNet,), {"__module__": module.__name__})
    module.Block = type("Block", (vgg_unet.Block,), {"__module__": module.__name__})
    copied = copy.deepcopy(network)
    copied.__class__ = module.PretrainedUNet
    for part in copied.modules():
        if isinstance(part, vgg_unet.Block):
            part.__class__ = module.Block
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch finds no source text of these classes
        patch.setitem(sys.modules, module.__name__, module)
        torch.save(copied, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def bundle(pickled: Path) -> Bundle:
    return import_checkpoint(
        "vgg_unet", pickled, "lungs", pickled.parent / "m", classes=["background", "lungs"]
    )


def test_the_import_computes_what_the_network_computes(network: Any, bundle: Bundle) -> None:
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.activation, manifest.background, manifest.whole_image) == (Activation.SOFTMAX, 0, True)
    images = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(run_model(bundle, images), expected, atol=1e-4 * np.abs(expected).max())


def test_the_pickled_module_gives_its_state_dict(network: Any, pickled: Path) -> None:
    state = read_checkpoint(pickled, MODULES)
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(np.array_equal(state[name], tensor.numpy()) for name, tensor in expected.items())


def test_other_classes_and_other_networks_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), tmp_path / "module.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    for name, message in (("module", "could run code"), ("weights", "not a checkpoint of a U-Net")):
        with pytest.raises(BadInput, match=message):
            import_checkpoint("vgg_unet", tmp_path / f"{name}.pt", "x", tmp_path / "m")
    assert is_empty(tmp_path / "m")


def test_the_template_is_current(network: Any) -> None:
    """If this fails, an exporter has changed: look at what changed, then `make templates`."""
    [(graph, template)] = make_templates(vgg_unet.VggUNet(), "vgg_unet", seed=5)
    assert (TEMPLATES_FOLDER / f"vgg_unet/{graph}{SUFFIX}").read_bytes() == compress_template(template)
