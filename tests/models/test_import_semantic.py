"""Semantic networks as they are found in the world become bundles that compute what their libraries do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
smp = pytest.importorskip("segmentation_models_pytorch")

from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import Bundle
from segserve.models.cli import app
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers import compare_semantic
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import Activation, SemanticManifest
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.semantic_model import SemanticModel

SMALL_TILE = {"tile": (64, 64)}  # exported and tried with less work than the default


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and batch norms' statistics as no initialisation leaves them."""
    torch.manual_seed(seed)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("running_var"):
            tensor.data = torch.rand_like(tensor) + 0.5
        elif tensor.is_floating_point() and tensor.dim() < 2:
            tensor.data = tensor.data + 0.1 * torch.randn_like(tensor)
    return network.eval()


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def brought(kind: str, checkpoint: Path, tmp_path: Path, **options: Any) -> Bundle:
    given = tmp_path / "given.yaml"
    given.write_text(json.dumps({**SMALL_TILE, **options.pop("given", {})}))  # JSON is YAML
    return import_checkpoint(kind, checkpoint, "mine", tmp_path / "models", manifest=given, **options)


def answers(bundle: Bundle, images: Tensor) -> np.ndarray[Any, Any]:
    return SemanticModel(bundle, RuntimeOptions(threads=1)).run(images.numpy())


def compared(bundle: Bundle, expected: Any, channels: int) -> None:
    """Within 1e-4, at a shape that the export did not see."""
    images = torch.randn(2, channels, 96, 128)
    with torch.no_grad():
        found = expected(images).numpy()
    np.testing.assert_allclose(
        answers(bundle, images), found, atol=1e-4 * max(1.0, float(np.abs(found).max()))
    )


def nothing_left(models: Path) -> bool:
    return not [p for p in models.rglob("*") if p.name != ".incoming"]


# U-Net. The two spellings are public code rather than packages; here they are as functions of their state dicts.


def double_conv(state: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    for convolution, norm in ((0, 1), (3, 4)):
        bias = state.get(f"{prefix}.{convolution}.bias")
        x = F.conv2d(x, state[f"{prefix}.{convolution}.weight"], bias, padding=1)
        statistics = (state[f"{prefix}.{norm}.running_{name}"] for name in ("mean", "var"))
        x = F.batch_norm(x, *statistics, state[f"{prefix}.{norm}.weight"], state[f"{prefix}.{norm}.bias"])
        x = F.relu(x)
    return x


def stepped(state: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """milesial/Pytorch-UNet's forward."""
    skips = [double_conv(state, "inc.double_conv", image)]
    for level in range(1, 5):
        prefix = f"down{level}.maxpool_conv.1.double_conv"
        skips.append(double_conv(state, prefix, F.max_pool2d(skips[-1], 2)))
    x = skips.pop()
    for step in range(1, 5):
        if f"up{step}.up.weight" in state:
            x = F.conv_transpose2d(x, state[f"up{step}.up.weight"], state[f"up{step}.up.bias"], stride=2)
        else:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = double_conv(state, f"up{step}.conv.double_conv", torch.cat([skips.pop(), x], dim=1))
    return F.conv2d(x, state["outc.conv.weight"], state["outc.conv.bias"])


def listed(state: Mapping[str, Tensor], image: Tensor) -> Tensor:
    """The forward of the `features` list spelling."""
    levels = len({key.split(".")[1] for key in state if key.startswith("downs.")})
    skips, x = [], image
    for level in range(levels):
        skips.append(double_conv(state, f"downs.{level}.conv", x))
        x = F.max_pool2d(skips[-1], 2)
    x = double_conv(state, "bottleneck.conv", x)
    for index in range(0, 2 * levels, 2):
        x = F.conv_transpose2d(x, state[f"ups.{index}.weight"], state[f"ups.{index}.bias"], stride=2)
        x = double_conv(state, f"ups.{index + 1}.conv", torch.cat([skips.pop(), x], dim=1))
    return F.conv2d(x, state["final_conv.weight"], state["final_conv.bias"])


class Weights:
    """A state dict with the published names and shapes, random."""

    def __init__(self, seed: int = 0) -> None:
        self.state: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def convolution(self, name: str, *shape: int, bias: bool) -> None:
        fan_in = shape[1] * shape[2] * shape[3]
        self.state[f"{name}.weight"] = torch.randn(*shape, generator=self._generator) * (2 / fan_in) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = torch.randn(shape[0], generator=self._generator) * 0.1

    def up(self, name: str, deep: int) -> None:
        self.convolution(name, deep, deep // 2, 2, 2, bias=False)
        self.state[f"{name}.bias"] = torch.randn(deep // 2, generator=self._generator) * 0.1

    def double(self, name: str, channels: int, middle: int, out: int, *, bias: bool) -> None:
        for index, (before, after) in ((0, (channels, middle)), (3, (middle, out))):
            self.convolution(f"{name}.{index}", after, before, 3, 3, bias=bias)
            norm = f"{name}.{index + 1}"
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.state[f"{norm}.{part}"] = torch.rand(after, generator=self._generator) + 0.5
            self.state[f"{norm}.num_batches_tracked"] = torch.tensor(3)


def stepped_weights(
    channels: int, classes: int, *, bilinear: bool, base: int = 64, bias: bool = False
) -> dict[str, Tensor]:
    made, factor = Weights(), 2 if bilinear else 1
    widths = [base, 2 * base, 4 * base, 8 * base, 16 * base // factor]
    made.double("inc.double_conv", channels, base, base, bias=bias)
    for level in range(1, 5):
        name = f"down{level}.maxpool_conv.1.double_conv"
        made.double(name, widths[level - 1], widths[level], widths[level], bias=bias)
    for step, (before, out) in enumerate(((16, 8), (8, 4), (4, 2), (2, 1)), start=1):
        final = base * out // (factor if step < 4 else 1)
        if not bilinear:
            made.up(f"up{step}.up", before * base)
        middle = before * base // 2 if bilinear else final
        made.double(f"up{step}.conv.double_conv", before * base, middle, final, bias=bias)
    made.convolution("outc.conv", classes, base, 1, 1, bias=True)
    return made.state


def listed_weights(channels: int, classes: int, features: list[int]) -> dict[str, Tensor]:
    made = Weights()
    for level, (before, after) in enumerate(zip([channels, *features], features, strict=False)):
        made.double(f"downs.{level}.conv", before, after, after, bias=False)
    made.double("bottleneck.conv", features[-1], 2 * features[-1], 2 * features[-1], bias=False)
    for index, width in enumerate(reversed(features)):
        made.up(f"ups.{2 * index}", 2 * width)
        made.double(f"ups.{2 * index + 1}.conv", 2 * width, width, width, bias=False)
    made.convolution("final_conv", classes, features[0], 1, 1, bias=True)
    return made.state


UNETS: dict[str, tuple[dict[str, Any], Any, int, int]] = {
    "stepped, transposed": (stepped_weights(3, 2, bilinear=False, base=8), stepped, 3, 2),
    "stepped, bilinear": (stepped_weights(1, 1, bilinear=True, base=8), stepped, 1, 1),
    "stepped, biased": (stepped_weights(3, 1, bilinear=True, base=4, bias=True), stepped, 3, 1),
    "listed": (listed_weights(3, 1, [8, 16, 32, 64]), listed, 3, 1),
    "listed, three levels": (listed_weights(1, 4, [8, 16, 32]), listed, 1, 4),
}


@pytest.mark.parametrize("name", UNETS)
def test_a_unet_of_either_spelling_computes_its_weights(tmp_path: Path, name: str) -> None:
    state, forward, channels, classes = UNETS[name]
    bundle = brought("unet", saved({"state_dict": state, "epoch": 3}, tmp_path / "u.pth"), tmp_path)
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.input.channels, len(manifest.classes)) == (channels, classes)
    compared(bundle, lambda images: forward(state, images), channels)
    bundle.verify()


@pytest.mark.parametrize("bilinear", [True, False])
def test_the_published_widths(tmp_path: Path, bilinear: bool) -> None:
    """64-128-256-512-1024, as everybody's checkpoints have."""
    from segserve.models.importers.unet import build_unet

    network, channels, classes, depth = build_unet(stepped_weights(3, 2, bilinear=bilinear))
    assert (channels, classes, depth) == (3, 2, 4)
    network, channels, classes, depth = build_unet(listed_weights(3, 1, [64, 128, 256, 512]))
    assert (channels, classes, depth) == (3, 1, 4)
    assert network.bottleneck.conv[0].out_channels == 1024


def test_what_one_class_and_several_are_taken_for(tmp_path: Path) -> None:
    one = brought("unet", saved(listed_weights(1, 1, [4, 8]), tmp_path / "1.pth"), tmp_path)
    manifest = one.expect(SemanticManifest)
    assert (manifest.classes, manifest.activation, manifest.background, manifest.multiple) == (
        ("object",),
        Activation.SIGMOID,
        None,
        4,
    )
    several = saved(listed_weights(1, 3, [4, 8]), tmp_path / "3.pth")
    manifest = brought("unet", several, tmp_path, replace=True).expect(SemanticManifest)
    assert (manifest.activation, manifest.background) == (Activation.SOFTMAX, 0)
    given = {"classes": ["cell", "border", "background"]}
    manifest = brought("unet", several, tmp_path, replace=True, given=given).expect(SemanticManifest)
    assert (manifest.classes[2], manifest.background) == ("background", 2)


NO_UNETS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another network": ({"conv.weight": torch.zeros(3)}, "not a checkpoint of a U-Net", "inc.double_conv"),
    "a missing part": (
        {k: v for k, v in listed_weights(3, 1, [4, 8]).items() if k != "ups.1.conv.3.weight"},
        "lacks ups.1.conv.3.weight",
        "",
    ),
    "more than a U-Net": (
        {**listed_weights(3, 1, [4, 8]), "ups.9.attention.weight": torch.zeros(3)},
        "has more than ups.9.attention",
        "",
    ),
    "another shape": (
        {**stepped_weights(3, 1, bilinear=True, base=4), "up2.conv.double_conv.0.weight": torch.zeros(7)},
        "has another shape",
        "",
    ),
    "two channels": (listed_weights(2, 1, [4, 8]), "takes 2 channels", "1 channel .grey. or 3"),
    "no levels": ({**listed_weights(3, 1, [4, 8]), "downs.7.conv.0.weight": torch.zeros(3)}, "in order", ""),
}


@pytest.mark.parametrize("name", NO_UNETS)
def test_what_is_no_such_unet_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    state, message, remedy = NO_UNETS[name]
    with pytest.raises(BadInput, match=message) as caught:
        brought("unet", saved(state, tmp_path / "u.pth"), tmp_path)
    assert caught.value.field == "checkpoint"
    import re

    assert re.search(remedy, caught.value.remedy)
    assert nothing_left(tmp_path / "models")


def test_an_export_that_disagrees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SemanticModel.run
    monkeypatch.setattr(compare_semantic.SemanticModel, "run", lambda *args: original(*args) * 1.001)
    with pytest.raises(BrokenModel, match=r"network .* differs"):
        brought("unet", saved(listed_weights(1, 1, [4, 8]), tmp_path / "u.pth"), tmp_path)
    assert nothing_left(tmp_path / "models")


# segmentation-models-pytorch

VARIANTS = {
    "unet:resnet18": (3, 1),
    "unetplusplus:resnet18": (1, 2),
    "deeplabv3plus:resnet18": (3, 3),
    "segformer:mit_b0": (3, 2),
    "unet:mit_b0": (3, 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_smp_by_its_variant(tmp_path: Path, variant: str) -> None:
    channels, classes = VARIANTS[variant]
    architecture, _, encoder = variant.partition(":")
    network = randomised(
        smp.create_model(architecture, encoder, encoder_weights=None, in_channels=channels, classes=classes)
    )
    path = saved(
        {"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "c.ckpt"
    )
    bundle = brought("smp", path, tmp_path, variant=variant)
    manifest = bundle.expect(SemanticManifest)
    assert (bundle.manifest.architecture, manifest.input.channels, len(manifest.classes)) == (
        variant,
        channels,
        classes,
    )
    compared(bundle, network, channels)


def test_a_folder_that_smp_saved_tells_all_by_itself(tmp_path: Path) -> None:
    network = randomised(
        smp.Unet(
            "resnet18",
            encoder_weights=None,
            classes=2,
            decoder_channels=[64, 32, 16, 8, 8],
            activation="sigmoid",
        )
    )
    network.save_pretrained(tmp_path / "saved")
    bundle = brought("smp", tmp_path / "saved", tmp_path, given={"classes": ["a", "b"]})
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.activation, manifest.architecture) == (Activation.NONE, "unet:resnet18")
    assert manifest.input.normalise.mean == (0.485, 0.456, 0.406)
    compared(bundle, network, 3)


def test_smp_is_asked_for_nothing_that_it_would_download(tmp_path: Path) -> None:
    path = saved({"encoder.conv1.weight": torch.zeros(3)}, tmp_path / "c.pth")
    for variant, message in (
        (None, "do not tell"),
        ("resnet18", "do not tell"),
        ("magic:resnet18", "do not tell"),
        ("unet:magic", "no encoder 'magic'"),
        ("unet:tu-hf-hub:someone/something", "no encoder"),
        ("unet:resnet18", "lacks"),
    ):
        with pytest.raises(BadInput, match=message):
            brought("smp", path, tmp_path, variant=variant)
    for content in ("{}", "[1]", "{", '{"_model_class": "Unet", "encoder_name": "tu-hf-hub:a/b"}'):
        (tmp_path / "saved").mkdir(exist_ok=True)
        (tmp_path / "saved" / "config.json").write_text(content)
        with pytest.raises(BadInput):
            brought("smp", tmp_path / "saved", tmp_path)
    assert nothing_left(tmp_path / "models")


# Plain ONNX


def graph(path: Path, network: nn.Module, example: Tensor, free: dict[int, str] | None = None) -> Path:
    axes = {"image": free, "out": free} if free else None
    export_onnx(network, path, {"image": example}, ("out",), axes)
    return path


FREE = {0: "n", 2: "h", 3: "w"}


def test_any_graph_with_a_free_size(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 4, 3, padding=1)
    path = graph(tmp_path / "g.onnx", network, torch.zeros(1, 3, 32, 32), FREE)
    bundle = brought("onnx", path, tmp_path, given={"classes": ["background", "a", "b", "c"]})
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.fixed, manifest.activation, manifest.background) == (False, Activation.SOFTMAX, 0)
    compared(bundle, network, 3)


def test_a_fixed_size_becomes_the_tile_and_images_go_one_by_one(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid())
    path = graph(tmp_path / "g.onnx", network, torch.zeros(1, 1, 40, 56))
    bundle = import_checkpoint("onnx", path, "mine", tmp_path / "models")
    manifest = bundle.expect(SemanticManifest)
    assert (manifest.fixed, manifest.tile, manifest.activation) == (True, (40, 56), Activation.NONE)
    images = torch.randn(3, 1, 40, 56)
    np.testing.assert_allclose(answers(bundle, images), network(images).detach().numpy(), atol=1e-5)
    with pytest.raises(BadInput, match="only 40 x 56"):
        brought("onnx", path, tmp_path, replace=True, given={"tile": (64, 64)})


class Argmax(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.argmax(dim=1)


class Halved(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return F.max_pool2d(image, 2)


NO_GRAPHS: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "five channels": (nn.Identity(), (1, 5, 32, 32), "takes 5 channels"),
    "a volume": (nn.Identity(), (1, 1, 8, 32, 32), "float32 .N, C, H, W."),
    "classes as labels": (Argmax(), (1, 3, 32, 32), "a value for each class"),
    "another size": (Halved(), (1, 3, 32, 32), "returns float32 of shape"),
}


@pytest.mark.parametrize("name", NO_GRAPHS)
def test_a_graph_that_answers_something_else_is_refused(tmp_path: Path, name: str) -> None:
    network, shape, message = NO_GRAPHS[name]
    path = graph(tmp_path / "g.onnx", network, torch.zeros(shape))
    with pytest.raises(BadInput, match=message):
        import_checkpoint("onnx", path, "mine", tmp_path / "models")
    assert nothing_left(tmp_path / "models")


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(BadInput, match="not an ONNX graph"):
        brought("onnx", tmp_path / "g.onnx", tmp_path)
    with pytest.raises(BadInput, match="no file"):
        brought("onnx", tmp_path / "absent.onnx", tmp_path)
    assert nothing_left(tmp_path / "models")


# What the command line says of a model


def invoke(tmp_path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["import", *arguments, "--name", "mine", "--data-dir", str(tmp_path)])


def test_the_command_line_takes_what_weights_do_not_tell(tmp_path: Path) -> None:
    path = saved(listed_weights(3, 2, [4, 8]), tmp_path / "u.pth")
    (tmp_path / "m.yaml").write_text(
        "activation: sigmoid\nthresholds: [0.3, 0.6]\ntile: [64, 64]\n"
        "input: {clahe: {clip_limit: 2}, normalise: {method: percentile, low: 1, high: 99.8}}\n"
        "postprocess: {min_size: 20}\n"
    )
    done = invoke(
        tmp_path, "unet", str(path), "--classes", "cell, border", "--manifest", str(tmp_path / "m.yaml")
    )
    assert done.exit_code == 0, done.output
    assert "classes: cell, border (sigmoid)" in done.output
    manifest = Bundle(tmp_path / "models" / "mine").expect(SemanticManifest)
    assert (manifest.thresholds, manifest.postprocess.min_size) == ((0.3, 0.6), 20)
    assert (manifest.input.channels, manifest.input.clahe.clip_limit) == (3, 2)


NO_MANIFESTS = {
    "a field that is none": ("magic: 1", "magic"),
    "weights' own fields": ("name: other", "name"),
    "no mapping": ("- 1", "nothing"),
    "no YAML": ("{", "cannot be read"),
    "too few classes": ("classes: [a]", "2 channels, and 1 classes"),
    "other channels": ("input: {channels: 1}", "takes 3 channels, not 1"),
    "a wrong value": ("overlap: 2", "overlap"),
    "no input": ("input: 3", "input"),
    "no list": ("classes: 5", "not a list"),
}


@pytest.mark.parametrize("name", NO_MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    content, message = NO_MANIFESTS[name]
    path = saved(listed_weights(3, 2, [4, 8]), tmp_path / "u.pth")
    (tmp_path / "m.yaml").write_text(content)
    done = invoke(tmp_path, "unet", str(path), "--manifest", str(tmp_path / "m.yaml"))
    assert isinstance(done.exception, BadInput)
    assert message in str(done.exception)
    assert nothing_left(tmp_path / "models")


def test_a_sam_is_told_by_itself_alone(tmp_path: Path) -> None:
    path = saved({"a": torch.zeros(1)}, tmp_path / "s.pth")
    with pytest.raises(BadInput, match="no use for classes"):
        import_checkpoint("sam", path, "mine", tmp_path / "models", classes=["a"])


@pytest.mark.parametrize("multiple", ["0", "abc", "100000"])
def test_a_multiple_that_cannot_be_is_refused(tmp_path: Path, multiple: str) -> None:
    (tmp_path / "m.yaml").write_text(f"multiple: {multiple}")
    path = graph(tmp_path / "g.onnx", nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 32, 32), FREE)
    done = invoke(tmp_path, "onnx", str(path), "--manifest", str(tmp_path / "m.yaml"))
    assert isinstance(done.exception, BadInput)
    assert "multiple cannot be" in str(done.exception)
    assert nothing_left(tmp_path / "models")


@pytest.mark.parametrize("activation", ["identity", "tanh", "logsoftmax"])
def test_smp_answers_probabilities_or_logits(tmp_path: Path, activation: str) -> None:
    smp.Unet("resnet18", encoder_weights=None, classes=2, activation=activation).save_pretrained(
        tmp_path / "s"
    )
    if activation == "identity":
        bundle = brought("smp", tmp_path / "s", tmp_path, given={"classes": ["a", "b"]})
        assert bundle.expect(SemanticManifest).activation is Activation.SOFTMAX
        return
    with pytest.raises(BadInput, match="does not return probabilities"):
        brought("smp", tmp_path / "s", tmp_path, given={"classes": ["a", "b"]})


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "e.pth")
    done = invoke(tmp_path, "unet", str(tmp_path / "e.pth"))
    assert isinstance(done.exception, BadInput)
