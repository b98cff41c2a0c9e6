"""BioImage.IO packages are imported and their own test is reproduced, or they are refused and leave nothing."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core")

from bioimageio.spec.model import v0_5 as spec

from segserve.errors import BadInput, BrokenModel
from segserve.models.manifest import Activation, SemanticManifest
from tests.models.importers.bioimageio_packages import (
    PYDANTIC_SKIP,
    change_description,
    import_package,
    is_empty,
    repack,
    write_package,
)

pytestmark = PYDANTIC_SKIP


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("package"))


def test_a_package_is_reproduced_and_described(zipped: Path, tmp_path: Path) -> None:
    bundle = import_package(zipped, tmp_path)
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.classes, manifest.activation) == (("nucleus", "boundary"), Activation.SIGMOID)
    assert (manifest.multiple, manifest.tile, manifest.overlap) == (16, (512, 512), 0.25)
    assert (manifest.licence, manifest.description) == ("MIT", "a small network for a test")
    assert manifest.input.normalise.model_dump() == {
        "method": "standardise",
        "per_channel": True,
        "eps": 1e-6,
    }
    bundle.verify()
    assert not list((tmp_path / "models" / ".incoming").iterdir())


def test_an_unpacked_package_is_read_too(zipped: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "package")
    import_package(tmp_path / "package", tmp_path).verify()


def test_a_binary_output_becomes_a_threshold(tmp_path: Path) -> None:
    path = write_package(
        tmp_path / "package",
        postprocessing=[
            spec.SigmoidDescr(), spec.BinarizeDescr(kwargs=spec.BinarizeKwargs(threshold=0.6))
        ],
        postprocess=lambda logits: (torch.sigmoid(logits) > 0.6).float(),
    )  # fmt: skip
    manifest = import_package(path, tmp_path).expect(SemanticManifest)
    # There a value must be above the threshold, in a manifest it must reach it.
    above = float(np.nextafter(np.float32(0.6), np.float32(1)))
    assert (manifest.thresholds, manifest.activation) == ((above, above), Activation.SIGMOID)


def test_a_test_that_is_not_reproduced_is_refused(tmp_path: Path) -> None:
    path = write_package(tmp_path / "package", change=lambda answer: np.asarray(answer * 0.9, np.float32))
    with pytest.raises(BrokenModel, match="test output"):
        import_package(path, tmp_path)
    assert is_empty(tmp_path / "models")


def keep_weights_of(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        weights = {"source": "weights.onnx", "authors": None, "pytorch_version": "2.6"}
        if kind == "pytorch_state_dict":
            weights["architecture"] = {"callable": "Small", "import_from": "os"}
        content["weights"] = {kind: {k: v for k, v in weights.items() if v is not None}}

    return change


def set_at(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


CUSTOM = {"id": "custom", "kwargs": {}, "callable": "f", "source": "evil.py", "sha256": "0" * 64}
CHANGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "TorchScript": (keep_weights_of("torchscript"), "no ONNX weights"),
    "a state dict with source code": (keep_weights_of("pytorch_state_dict"), "no ONNX weights"),
    "code as a step": (set_at(["outputs", 0, "postprocessing"], [CUSTOM]), "custom|does not describe"),
    "weights outside": (
        set_at(["weights", "onnx", "source"], "../../secret.onnx"),
        "no such file|does not describe",
    ),
    "weights elsewhere": (
        set_at(["weights", "onnx", "source"], "https://example.org/w.onnx"),
        "no such file|does not describe",
    ),
    "weights of another digest": (
        set_at(["weights", "onnx", "sha256"], "0" * 64),
        "does not match its digest",
    ),
    "a test image outside": (
        set_at(["inputs", 0, "test_tensor", "source"], "../input.npy"),
        "no such file|does not describe",
    ),
    "no test image": (set_at(["inputs", 0, "test_tensor"], None), "no test tensors|does not describe"),
    "a step that cannot be done": (
        set_at(["inputs", 0, "preprocessing"], [{"id": "binarize", "kwargs": {"threshold": 1}}]),
        "binarize",
    ),
    "another kind": (set_at(["type"], "dataset"), "does not describe a model"),
    "two outputs": (
        lambda content: content["outputs"].append({**content["outputs"][0], "id": "more"}),
        "2 outputs",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_package_that_cannot_be_served_is_refused(zipped: Path, tmp_path: Path, name: str) -> None:
    change, message = CHANGED[name]
    path = repack(zipped, lambda contents: change_description(contents, change), tmp_path / "p.zip")
    with pytest.raises(BadInput, match=message) as caught:
        import_package(path, tmp_path)
    assert caught.value.field == "checkpoint"
    assert is_empty(tmp_path / "models")
