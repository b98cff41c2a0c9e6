"""BioImage.IO packages, made here with bioimageio.spec: reproduced, or refused without a trace."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core")

import yaml
from bioimageio.core.digest_spec import create_sample_for_model
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.spec.model import v0_5 as spec
from numpy.typing import NDArray
from pydantic import VERSION
from torch import Tensor, nn

from segserve.errors import BadInput, BrokenModel, TooLarge
from segserve.models.bundle import Bundle
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers import safe_unzip
from segserve.models.importers.bioimageio import read_description
from segserve.models.importers.bioimageio_steps import build_input
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.semantic_manifest import SemanticInput
from segserve.semantic.preprocess import prepare_input

SIZE = 64
pytestmark = pytest.mark.skipif(
    tuple(map(int, VERSION.split(".")[:2])) >= (2, 14),
    reason="bioimageio.spec 0.5.12, which bioimageio.core 0.11 needs, reads nothing under pydantic 2.14",
)

STANDARDISED = spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["y", "x"]))


class Small(nn.Module):
    def __init__(self, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.layers(image)
        return found


def picture(channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).integers(0, 256, (1, channels, SIZE, SIZE)).astype(np.float32)


def standardised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, deviation = (f(image, axis=(2, 3), keepdims=True) for f in (np.mean, np.std))
    return np.asarray((image - mean) / (deviation + 1e-6), np.float32)


def package(
    folder: Path,
    *,
    preprocessing: list[Any] | None = None,
    postprocessing: list[Any] | None = None,
    image: NDArray[np.float32] | None = None,
    prepared: Callable[[NDArray[np.float32]], NDArray[np.float32]] = standardised,
    finished: Callable[[Tensor], Tensor] = torch.sigmoid,
    channels: int = 1,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda answer: answer,
) -> Path:
    """A package's zip, its test output computed by torch."""
    folder.mkdir(parents=True, exist_ok=True)
    network = Small(channels).eval()
    axes = {0: "n", 2: "h", 3: "w"}
    export_onnx(
        network, folder / "weights.onnx", {"image": torch.zeros(1, channels, SIZE, SIZE)}, ("out",),
        {"image": axes, "out": axes},
    )  # fmt: skip
    image = picture(channels) if image is None else image
    with torch.no_grad():
        answer = finished(network(torch.from_numpy(prepared(image)))).numpy()
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
    # Nodes that name files cannot be written by every pydantic (bioimageio.spec 0.5.12 under 2.14): by hand.
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


def brought(path: Path, tmp_path: Path, **options: Any) -> Bundle:
    return import_checkpoint("bioimageio", path, "mine", tmp_path / "models", **options)


def nothing_left(models: Path) -> bool:
    return not [p for p in models.rglob("*") if p.name != ".incoming"]


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("package"))


def repacked(path: Path, change: Callable[[dict[str, bytes]], None], target: Path) -> Path:
    """The package with other contents."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return target


def described(contents: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    """Change the package's description in place."""
    name = next(name for name in contents if name.endswith(".yaml"))
    content = yaml.safe_load(contents[name])
    change(content)
    contents[name] = yaml.safe_dump(content).encode()


def test_a_package_is_reproduced_and_tells_what_it_is(zipped: Path, tmp_path: Path) -> None:
    bundle = brought(zipped, tmp_path)
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
    brought(tmp_path / "package", tmp_path).verify()


LINEAR = spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=1 / 255, offset=-0.5))
RANGE = spec.ScaleRangeDescr(
    kwargs=spec.ScaleRangeKwargs(axes=["y", "x"], min_percentile=1, max_percentile=99.8)
)
FIXED = spec.FixedZeroMeanUnitVarianceDescr(
    kwargs=spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
        axis="channel", mean=[100, 110, 120], std=[30, 40, 50]
    )
)
TOGETHER = spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["channel", "y", "x"]))
FLOAT = spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="float32"))
TO_ONE = spec.ClipDescr(kwargs=spec.ClipKwargs(min=0, max=1))
STEPS = {
    "nothing": [],
    "linear": [FLOAT, LINEAR],
    "linear twice": [LINEAR, LINEAR],
    "fixed by channel": [FIXED],
    "percentiles": [RANGE],
    "percentiles, clipped": [RANGE, TO_ONE],
    "percentiles, then linear": [RANGE, LINEAR],
    "standardised together": [TOGETHER],
    "standardised by channel": [STANDARDISED],
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_become_what_bioimageio_computes(tmp_path: Path, name: str) -> None:
    """Its own operators on its own test image are the oracle."""
    package(tmp_path, preprocessing=STEPS[name], channels=3, prepared=lambda image: image)
    description = read_description(tmp_path)
    sample = create_sample_for_model(description, inputs={"image": picture(3)})
    before, _ = setup_pre_and_postprocessing(description, dataset_for_initial_statistics=[sample])
    for step in before:
        step(sample)
    expected = np.asarray(sample.members["image"].data)[0]
    options = SemanticInput.model_validate(build_input(STEPS[name], 3, 255))
    image = np.ascontiguousarray(picture(3)[0].transpose(1, 2, 0)).astype(np.uint8)
    found = prepare_input(image, options).read_tile(0, 0, SIZE, SIZE)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_values_of_0_to_1_are_known_by_the_test_image() -> None:
    assert build_input([], 1, 1.0)["normalise"]["white"] == 1
    assert build_input([], 1, 255.0)["normalise"]["white"] == 255
    with pytest.raises(BadInput, match="up to 4095 as they are"):
        build_input([], 1, 4095.0)
    assert build_input([RANGE], 1, 4095.0)["normalise"]["method"] == "percentile"


REFUSED_STEPS = {
    "a statistic after another": [RANGE, STANDARDISED],
    "a statistic after a scale": [LINEAR, RANGE],
    "rounding": [LINEAR, spec.EnsureDtypeDescr(kwargs=spec.EnsureDtypeKwargs(dtype="uint8"))],
    "clipping what is not percentiles": [LINEAR, TO_ONE],
    "a threshold": [spec.BinarizeDescr(kwargs=spec.BinarizeKwargs(threshold=3))],
    "along one axis": [spec.ZeroMeanUnitVarianceDescr(kwargs=spec.ZeroMeanUnitVarianceKwargs(axes=["x"]))],
}


@pytest.mark.parametrize("name", REFUSED_STEPS)
def test_steps_that_cannot_be_done_are_refused_by_name(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be done here") as caught:
        build_input(REFUSED_STEPS[name], 1, 255)
    assert REFUSED_STEPS[name][-1].id in caught.value.message
    assert "as onnx" in caught.value.remedy


def test_a_binary_answer_becomes_a_threshold(tmp_path: Path) -> None:
    path = package(
        tmp_path / "package",
        postprocessing=[
            spec.SigmoidDescr(), spec.BinarizeDescr(kwargs=spec.BinarizeKwargs(threshold=0.6))
        ],
        finished=lambda logits: (torch.sigmoid(logits) > 0.6).float(),
    )  # fmt: skip
    manifest = brought(path, tmp_path).expect(SemanticManifest)
    # It takes what is above the threshold, a manifest what reaches it.
    above = float(np.nextafter(np.float32(0.6), np.float32(1)))
    assert (manifest.thresholds, manifest.activation) == ((above, above), Activation.SIGMOID)


def test_a_test_that_is_not_reproduced_is_refused(tmp_path: Path) -> None:
    path = package(tmp_path / "package", change=lambda answer: np.asarray(answer * 0.9, np.float32))
    with pytest.raises(BrokenModel, match="test output"):
        brought(path, tmp_path)
    assert nothing_left(tmp_path / "models")


def only(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        weights = {"source": "weights.onnx", "authors": None, "pytorch_version": "2.6"}
        if kind == "pytorch_state_dict":
            weights["architecture"] = {"callable": "Small", "import_from": "os"}
        content["weights"] = {kind: {k: v for k, v in weights.items() if v is not None}}

    return change


def at(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


CUSTOM = {"id": "custom", "kwargs": {}, "callable": "f", "source": "evil.py", "sha256": "0" * 64}
CHANGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "TorchScript": (only("torchscript"), "no ONNX weights"),
    "a state dict with source code": (only("pytorch_state_dict"), "no ONNX weights"),
    "code as a step": (at(["outputs", 0, "postprocessing"], [CUSTOM]), "custom|does not describe"),
    "weights outside": (
        at(["weights", "onnx", "source"], "../../secret.onnx"),
        "no such file|does not describe",
    ),
    "weights elsewhere": (
        at(["weights", "onnx", "source"], "https://example.org/w.onnx"),
        "no such file|does not describe",
    ),
    "weights of another digest": (at(["weights", "onnx", "sha256"], "0" * 64), "does not match its digest"),
    "a test image outside": (
        at(["inputs", 0, "test_tensor", "source"], "../input.npy"),
        "no such file|does not describe",
    ),
    "no test image": (at(["inputs", 0, "test_tensor"], None), "no test tensors|does not describe"),
    "a step that cannot be done": (
        at(["inputs", 0, "preprocessing"], [{"id": "binarize", "kwargs": {"threshold": 1}}]),
        "binarize",
    ),
    "another kind": (at(["type"], "dataset"), "does not describe a model"),
    "two outputs": (
        lambda content: content["outputs"].append({**content["outputs"][0], "id": "more"}),
        "2 outputs",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_package_that_cannot_be_served_is_refused(zipped: Path, tmp_path: Path, name: str) -> None:
    change, message = CHANGED[name]
    path = repacked(zipped, lambda contents: described(contents, change), tmp_path / "p.zip")
    with pytest.raises(BadInput, match=message) as caught:
        brought(path, tmp_path)
    assert caught.value.field == "checkpoint"
    assert nothing_left(tmp_path / "models")


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in entries:
            written.writestr(name, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:evil"])
def test_a_file_outside_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "p.zip", ("rdf.yaml", b"type: model"), (name, b"evil"))
    with pytest.raises(BadInput, match="outside of itself"):
        brought(path, tmp_path)
    assert nothing_left(tmp_path / "models")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "p.zip", (link("rdf.yaml"), b"/etc/passwd"))
    with pytest.raises(BadInput, match="no plain file"):
        brought(path, tmp_path)
    assert nothing_left(tmp_path / "models")


def test_a_bomb_goes_off_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_unzip, "MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "p.zip", ("rdf.yaml", b"type: model"), ("zeros", bytes(10 << 20)))
    with pytest.raises(TooLarge, match="unpacks to more"):
        brought(path, tmp_path)
    monkeypatch.setattr(safe_unzip, "MAX_FILES", 3)
    many = archive(tmp_path / "m.zip", *((str(n), b"") for n in range(4)))
    with pytest.raises(TooLarge, match="4 files"):
        brought(many, tmp_path)
    assert nothing_left(tmp_path / "models")


def test_an_archive_that_lies_of_its_size_is_refused(tmp_path: Path) -> None:
    """The header says 10 bytes; a megabyte comes out."""
    path = archive(tmp_path / "p.zip", ("rdf.yaml", bytes(1 << 20)))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(signature) + offset
        data[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadInput):
        brought(path, tmp_path)
    assert nothing_left(tmp_path / "models")


def test_a_damaged_archive_is_refused(zipped: Path, tmp_path: Path) -> None:
    data, path = zipped.read_bytes(), tmp_path / "p.zip"
    flipped = bytearray(data)
    for position in range(2000, min(len(data) - 200, 40_000), 500):
        flipped[position] ^= 0xFF
    for damaged in (b"", b"no zip", data[: len(data) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(BadInput):
            brought(path, tmp_path)
    with pytest.raises(BadInput):
        brought(tmp_path / "absent.zip", tmp_path)
    assert nothing_left(tmp_path / "models")


def test_a_folder_whose_links_lead_elsewhere_is_refused(zipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    with zipfile.ZipFile(zipped) as opened:
        opened.extractall(folder)
    weights = next(folder.rglob("*.onnx"))
    weights.rename(tmp_path / "elsewhere.onnx")
    weights.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BadInput, match="no such file"):
        brought(folder, tmp_path)
    assert nothing_left(tmp_path / "models")
