"""Write BioImage.IO packages with bioimageio.spec, and import them in a test."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core")

import yaml
from bioimageio.spec.model import v0_5 as spec
from numpy.typing import NDArray
from pydantic import VERSION
from torch import Tensor, nn

from segserve.models.bundle import Bundle
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers.import_checkpoint import import_checkpoint

PYDANTIC_SKIP = pytest.mark.skipif(
    tuple(map(int, VERSION.split(".")[:2])) >= (2, 14),
    reason="bioimageio.spec 0.5.12, which bioimageio.core 0.11 needs, reads nothing under pydantic 2.14",
)


SIZE = 64
STANDARDISED = spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["y", "x"]))


class SmallNetwork(nn.Module):
    def __init__(self, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)
        return features


def make_image(channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).integers(0, 256, (1, channels, SIZE, SIZE)).astype(np.float32)


def standardise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, deviation = (f(image, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    return np.asarray((image - mean) / (deviation + 1e-6), np.float32)


def write_package(
    folder: Path,
    *,
    preprocessing: list[Any] | None = None,
    postprocessing: list[Any] | None = None,
    image: NDArray[np.float32] | None = None,
    preprocess: Callable[[NDArray[np.float32]], NDArray[np.float32]] = standardise,
    postprocess: Callable[[Tensor], Tensor] = torch.sigmoid,
    channels: int = 1,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda answer: answer,
) -> Path:
    """Write a package as a zip. torch computes its test output."""
    folder.mkdir(parents=True, exist_ok=True)
    network = SmallNetwork(channels).eval()
    axes = {0: "n", 2: "h", 3: "w"}
    export_onnx(
        network, folder / "weights.onnx", {"image": torch.zeros(1, channels, SIZE, SIZE)}, ("out",),
        {"image": axes, "out": axes},
    )  # fmt: skip
    image = make_image(channels) if image is None else image
    with torch.no_grad():
        answer = postprocess(network(torch.from_numpy(preprocess(image)))).numpy()
    np.save(folder / "input.npy", image)
    np.save(folder / "output.npy", change(answer.astype(np.float32)))
    size = spec.ParameterizedSize(min=32, step=16)
    inputs = spec.InputTensorDescr(
        id="image",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=[f"c{n}" for n in range(channels)]),
            spec.SpaceInputAxis(id="y", size=size),
            spec.SpaceInputAxis(id="x", size=size),
        ],
        preprocessing=[STANDARDISED] if preprocessing is None else preprocessing,
    )
    outputs = spec.OutputTensorDescr(
        id="classes",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=["nucleus", "boundary"]),
            *(
                spec.SpaceOutputAxisWithHalo(
                    id=axis, size=spec.SizeReference(tensor_id="image", axis_id=axis), halo=8
                )
                for axis in ("y", "x")
            ),
        ],
        postprocessing=[spec.SigmoidDescr()] if postprocessing is None else postprocessing,
    )
    # Written by hand: some versions of pydantic cannot write nodes that name files (bioimageio.spec 0.5.12 under 2.14).
    description = {
        "type": "model",
        "format_version": "0.5.4",
        "name": "Small",
        "description": "a small network for a test",
        "license": "MIT",
        "inputs": [{**inputs.model_dump(mode="json"), "test_tensor": {"source": "input.npy"}}],
        "outputs": [{**outputs.model_dump(mode="json"), "test_tensor": {"source": "output.npy"}}],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 18}},
    }
    (folder / "rdf.yaml").write_text(yaml.safe_dump(description))
    with zipfile.ZipFile(folder / "package.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("rdf.yaml", "weights.onnx", "input.npy", "output.npy"):
            archive.write(folder / name, name)
    return folder / "package.zip"


def import_package(path: Path, tmp_path: Path, **options: Any) -> Bundle:
    return import_checkpoint("bioimageio", path, "mine", tmp_path / "models", **options)


def is_empty(models: Path) -> bool:
    return not [p for p in models.rglob("*") if p.name != ".incoming"]


def repack(path: Path, change: Callable[[dict[str, bytes]], None], target: Path) -> Path:
    """Write a copy of the package with changed contents."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def change_description(contents: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    """Change the package's description in place."""
    name = next(name for name in contents if name.endswith(".yaml"))
    content = yaml.safe_load(contents[name])
    change(content)
    contents[name] = yaml.safe_dump(content).encode()
