"""Import semantic networks in a test, and compare the bundle with the network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from typer.testing import CliRunner

from segserve.models.bundle import Bundle
from segserve.models.cli import app
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel

SMALL_TILE = {"tile": (64, 64)}  # exporting and running it takes less time than the default


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give weights and batch norms' statistics values that no initialisation gives them."""
    torch.manual_seed(seed)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("running_var"):
            tensor.data = torch.rand_like(tensor) + 0.5
        elif tensor.is_floating_point() and tensor.dim() < 2:
            tensor.data = tensor.data + 0.1 * torch.randn_like(tensor)
    return network.eval()


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def import_semantic(kind: str, checkpoint: Path, tmp_path: Path, **options: Any) -> Bundle:
    """Import a checkpoint. fields: what the file of --manifest holds."""
    manifest = tmp_path / "fields.yaml"
    manifest.write_text(json.dumps({**SMALL_TILE, **options.pop("fields", {})}))  # JSON is YAML
    return import_checkpoint(kind, checkpoint, "mine", tmp_path / "models", manifest=manifest, **options)


def run_model(bundle: Bundle, images: Tensor) -> np.ndarray[Any, Any]:
    return SemanticModel(bundle, RuntimeOptions(threads=1)).run(images.numpy())


def assert_computes(bundle: Bundle, expected: Any, channels: int) -> None:
    """The bundle computes `expected` within 1e-4, at a shape that the export did not use."""
    images = torch.randn(2, channels, 96, 128)
    with torch.no_grad():
        actual = expected(images).numpy()
    np.testing.assert_allclose(
        run_model(bundle, images), actual, atol=1e-4 * max(1.0, float(np.abs(actual).max()))
    )


def is_empty(models: Path) -> bool:
    return not [p for p in models.rglob("*") if p.name != ".incoming"]


def write_graph(path: Path, network: nn.Module, example: Tensor, free: dict[int, str] | None = None) -> Path:
    axes = {"image": free, "out": free} if free else None
    export_onnx(network, path, {"image": example}, ("out",), axes)
    return path


FREE_AXES = {0: "n", 2: "h", 3: "w"}


def invoke_import(tmp_path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["import", *arguments, "--name", "mine", "--data-dir", str(tmp_path)])
