"""Any ONNX graph from an image to a value for each class and pixel becomes a bundle; other graphs are refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.errors import BadInput, BrokenModel
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.runtime import runtime_options
from tests.models.importers.semantic_imports import (
    FREE_AXES,
    assert_computes,
    import_semantic,
    invoke_import,
    is_empty,
    run_model,
    write_graph,
)


def test_a_graph_with_a_free_size_is_imported(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 4, 3, padding=1)
    path = write_graph(tmp_path / "g.onnx", network, torch.zeros(1, 3, 32, 32), FREE_AXES)
    bundle = import_semantic("onnx", path, tmp_path, fields={"classes": ["background", "a", "b", "c"]})
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.fixed, manifest.activation, manifest.background) == (False, Activation.SOFTMAX, 0)
    assert_computes(bundle, network, 3)


def test_a_fixed_size_becomes_the_tile_and_images_go_one_by_one(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid())
    path = write_graph(tmp_path / "g.onnx", network, torch.zeros(1, 1, 40, 56))
    bundle = import_checkpoint("onnx", path, "mine", tmp_path / "models")
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.fixed, manifest.tile, manifest.activation) == (True, (40, 56), Activation.NONE)
    images = torch.randn(3, 1, 40, 56)
    np.testing.assert_allclose(run_model(bundle, images), network(images).detach().numpy(), atol=1e-5)
    with pytest.raises(BadInput, match="only 40 x 56"):
        import_semantic("onnx", path, tmp_path, replace=True, fields={"tile": (64, 64)})


class Argmax(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.argmax(dim=1)


class Halved(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return F.max_pool2d(image, 2)


BAD_GRAPHS: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "five channels": (nn.Identity(), (1, 5, 32, 32), "takes 5 channels"),
    "a volume": (nn.Identity(), (1, 1, 8, 32, 32), "float32 .N, C, H, W."),
    "classes as labels": (Argmax(), (1, 3, 32, 32), "a value for each class"),
    "another size": (Halved(), (1, 3, 32, 32), "returns float32 of shape"),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_a_graph_with_another_output_is_refused(tmp_path: Path, name: str) -> None:
    network, shape, message = BAD_GRAPHS[name]
    path = write_graph(tmp_path / "g.onnx", network, torch.zeros(shape))
    with pytest.raises(BadInput, match=message):
        import_checkpoint("onnx", path, "mine", tmp_path / "models")
    assert is_empty(tmp_path / "models")


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(BadInput, match="not an ONNX graph"):
        import_semantic("onnx", tmp_path / "g.onnx", tmp_path)
    with pytest.raises(BadInput, match="no file"):
        import_semantic("onnx", tmp_path / "absent.onnx", tmp_path)
    assert is_empty(tmp_path / "models")


@pytest.mark.parametrize("multiple", ["0", "abc", "100000"])
def test_a_wrong_multiple_is_refused(tmp_path: Path, multiple: str) -> None:
    (tmp_path / "m.yaml").write_text(f"multiple: {multiple}")
    path = write_graph(tmp_path / "g.onnx", nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 32, 32), FREE_AXES)
    result = invoke_import(tmp_path, "onnx", str(path), "--manifest", str(tmp_path / "m.yaml"))
    assert isinstance(result.exception, BadInput)
    assert "multiple cannot be" in str(result.exception)
    assert is_empty(tmp_path / "models")


class Stages(nn.Module):
    """Deep supervision: the answer, then that of each stage."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return image.sigmoid(), (2 * image).sigmoid(), (3 * image).sigmoid()


def test_the_first_of_several_outputs_of_one_shape_is_the_answer(tmp_path: Path) -> None:
    export_onnx(Stages(), tmp_path / "g.onnx", {"image": torch.zeros(1, 1, 32, 32)}, ("a", "b", "c"))
    bundle = import_checkpoint("onnx", tmp_path / "g.onnx", "mine", tmp_path / "models")
    image = torch.randn(1, 1, 32, 32)
    np.testing.assert_allclose(run_model(bundle, image), image.sigmoid().numpy(), atol=1e-6)


def test_a_graph_that_loops_for_ever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_options, "MAX_TRIAL_RUN_S", 0.2)
    onnx.save(endless_graph(), str(tmp_path / "g.onnx"))
    with pytest.raises(BrokenModel, match=r"did not end within 0 s"):
        import_checkpoint("onnx", tmp_path / "g.onnx", "mine", tmp_path / "models")
    assert is_empty(tmp_path / "models")


def endless_graph() -> ModelProto:
    """A graph that doubles its input as long as a constant is true."""
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still"]),
            helper.make_node("Add", ["v", "v"], ["doubled"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "always", "image"], ["answer"], body=turn)
    images = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 64, 64]) for n in ("image", "answer")
    ]
    always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
    graph = helper.make_graph([loop], "endless", images[:1], images[1:], [always])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
