"""`segserve train unet`: it learns, resumes where it stopped, keeps the best weights, and its bundle serves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from segserve.cli import cli
from segserve.errors import BadInput
from segserve.evaluate.overlap_scores import dice
from segserve.models.bundle import Bundle
from segserve.models.importers.import_request import ModelCard
from segserve.models.manifest import SemanticManifest, Subject
from segserve.models.networks.transunet import TransUnetShape
from segserve.models.networks.unet import FeatureListUNet
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel
from segserve.train import train_unet as module
from segserve.train import unet_trainer
from segserve.train.output_target import OutputTarget
from segserve.train.progress import SilentProgress
from segserve.train.train_unet import TrainUnetOptions, train_new_unet
from segserve.train.training_summary import TrainedModel
from segserve.train.unet_choices import Architecture, LossName
from segserve.train.unet_dataset import build_data_loader, stretch_image
from segserve.train.unet_losses import UnetLoss
from segserve.train.unet_networks import TRANSUNET_SHAPES
from segserve.train.unet_trainer import UnetTrainer
from segserve.train.unet_validation import validate_unet
from tests.serving import Server
from tests.train.drawn_discs import draw_discs, write_folders

FEATURES = (4, 8)
OPTIONS = TrainUnetOptions(
    features=FEATURES, steps=20, batch_size=4, window_px=32, learning_rate=1e-2, num_workers=0
)
TRAINING, VALIDATION = [draw_discs(seed) for seed in range(1, 4)], [draw_discs(0)]


@pytest.fixture(autouse=True)
def no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plotting takes longer than training here. The test of the command plots."""
    if "command" not in request.node.name:
        monkeypatch.setattr(module, "plot_curves", lambda lines, path: None)


def target(root: Path, name: str = "mine") -> OutputTarget:
    return OutputTarget(root / "models", name, root / "run")


def train(root: Path, options: TrainUnetOptions = OPTIONS, **more: Any) -> TrainedModel:
    return train_new_unet(
        TRAINING, VALIDATION, target(root), options, ModelCard(), **{"progress": SilentProgress(), **more}
    )


def read_onnx(trained: TrainedModel) -> bytes:
    return trained.bundle.path("model.onnx").read_bytes()


def read_scores(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "run/scores.jsonl").read_text().splitlines()]


def score_as(monkeypatch: pytest.MonkeyPatch, *dices: float) -> None:
    """Give the validations of a run these scores, one after the other."""
    scores = iter(dices)
    monkeypatch.setattr(
        unet_trainer, "validate_unet", lambda *rest: {"loss_validation": 0.0, "dice": next(scores)}
    )


class InterruptAfter(SilentProgress):
    """Interrupts, as a user does, after `after` steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        if done == self.after:
            raise KeyboardInterrupt


def test_it_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    trained = train(tmp_path, TrainUnetOptions(**{**vars(OPTIONS), "steps": 60}))
    lines = read_scores(tmp_path)
    assert [line["step"] for line in lines] == list(range(0, 61, 6)), "step 0 is the untrained network"
    assert lines[-1]["loss"] < 0.7 * lines[1]["loss"]
    best = max(line["dice"] for line in lines)
    assert best > 0.9
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    network = FeatureListUNet(3, 1, FEATURES)
    network.load_state_dict(state["best"]["weights"])
    assert trained.summary.improved
    assert (trained.summary.start, trained.summary.best["dice"]) == (lines[0], pytest.approx(best, abs=2e-4))
    scores = validate_unet(network, [stretch_image(each) for each in VALIDATION], 1, "cpu", UnetLoss())
    assert scores["dice"] == pytest.approx(state["best"]["score"])


NETWORKS: dict[str, dict[str, Any]] = {
    "unetplusplus:resnet18": {"architecture": Architecture.UNETPLUSPLUS, "features": (4, 8, 8)},
    "transunet:small": {
        "architecture": Architecture.TRANSUNET,
        "encoder": "small",
        "features": (4, 8, 8, 16),
        "window_px": 64,
    },
}
SMALL_TRANSUNET = TransUnetShape(width=32, units=(1, 1, 1), hidden=32, layers=1, heads=1, mlp=32, bridge=16)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_learn_and_serve_what_they_learned(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are larger than a TransUNet's window: it is validated and serves tile by tile."""
    monkeypatch.setitem(TRANSUNET_SHAPES, "small", SMALL_TRANSUNET)
    options = TrainUnetOptions(**{**vars(OPTIONS), **NETWORKS[name]})
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, options, progress=InterruptAfter(11))
    trained = train(tmp_path, options, resume=True)
    lines = read_scores(tmp_path)
    assert lines[-1]["loss"] < 0.9 * lines[1]["loss"]
    manifest = trained.bundle.expect(SemanticManifest)
    assert manifest.architecture == name
    assert manifest.fixed == (options.architecture is Architecture.TRANSUNET)
    network = options.build_network()
    best = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["best"]["weights"]
    network.load_state_dict(best)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.eval()(images).numpy()
    computed = SemanticModel(trained.bundle, RuntimeOptions(threads=1)).run(images.numpy())
    assert np.abs(computed - expected).max() < 0.05 * np.abs(expected).max()  # its weights are fp16


@pytest.mark.parametrize("loss", [LossName.FOCAL, LossName.GENERALISED_DICE])
def test_it_learns_by_other_losses(tmp_path: Path, loss: LossName) -> None:
    weights = None if loss is LossName.GENERALISED_DICE else "auto"
    options = TrainUnetOptions(**{**vars(OPTIONS), "steps": 60, "loss": loss, "class_weights": weights})
    train(tmp_path, options)
    assert max(line["dice"] for line in read_scores(tmp_path)) > 0.85
    settings = json.loads((tmp_path / "run/run.json").read_text())
    assert (settings["loss"], settings["class_weights"]) == (loss, weights)


def test_the_bundle_computes_the_best_weights(tmp_path: Path) -> None:
    bundle = train(tmp_path).bundle
    network = FeatureListUNet(3, 1, FEATURES).eval()
    network.load_state_dict(torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["best"]["weights"])
    image = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        expected = network(image).numpy()
    computed = SemanticModel(bundle, RuntimeOptions(threads=1)).run(image.numpy())
    assert np.abs(computed - expected).max() < 0.02 * np.abs(expected).max()  # its weights are fp16


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", progress=InterruptAfter(9))
    assert not (tmp_path / "parts/models").exists()
    resumed = train(tmp_path / "parts", resume=True)
    assert read_onnx(resumed) == read_onnx(whole)
    scores = [(tmp_path / part / "run/scores.jsonl").read_text() for part in ("whole", "parts")]
    assert scores[0] == scores[1]


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    first = train(tmp_path / "1")
    assert read_onnx(train(tmp_path / "2")) == read_onnx(first)
    assert read_onnx(train(tmp_path / "3", TrainUnetOptions(**{**vars(OPTIONS), "seed": 1}))) != read_onnx(
        first
    )


def test_it_stops_early_when_the_dice_no_longer_rises(tmp_path: Path) -> None:
    options = TrainUnetOptions(**{**vars(OPTIONS), "learning_rate": 0.0, "patience": 3})
    train(tmp_path, options)
    assert read_scores(tmp_path)[-1]["step"] == 8, (
        "a validation every 2 steps: the first one, and three that were no better"
    )


def test_weights_of_a_better_step_than_the_last_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_as(monkeypatch, 0.5, 0.2, 0.8, *[0.7] * 8)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=InterruptAfter(9))
    resumed = train(tmp_path, resume=True)
    assert (resumed.summary.best["step"], resumed.summary.steps, resumed.summary.improved) == (4, 20, True)
    assert resumed.summary.describe_scores() == "dice 0.500 -> 0.800"
    best = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert best["best"]["step"] == 4
    assert not torch.equal(best["best"]["weights"]["final_conv.weight"], best["network"]["final_conv.weight"])


def test_the_untrained_network_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_as(monkeypatch, 0.9, *[0.3] * 10)
    summary = train(tmp_path).summary
    assert (summary.improved, summary.is_start, summary.best["step"]) == (False, False, 2)


def test_several_classes_are_trained(tmp_path: Path) -> None:
    options = TrainUnetOptions(**{**vars(OPTIONS), "classes": ("odd", "even")})
    images = [draw_discs(seed) for seed in range(4)]
    for each in images:
        each.mask[each.mask > 0] = 1 + each.mask[each.mask > 0] % 2
    bundle = train_new_unet(
        images[1:], images[:1], target(tmp_path), options, ModelCard(), progress=SilentProgress()
    ).bundle
    assert bundle.expect(SemanticManifest).classes == ("odd", "even")
    assert SemanticModel(bundle, RuntimeOptions()).run(np.zeros((1, 3, 32, 32), np.float32)).shape[1] == 2


def test_windows_show_what_their_masks_say() -> None:
    loader = build_data_loader(
        [stretch_image(draw_discs(1))], 1, window_px=32, seed=0, steps=range(1), batch_size=4, num_workers=0
    )
    for images, truth in loader:
        inside, outside = images[:, 0][truth[:, 0] > 0], images[:, 0][truth[:, 0] == 0]
        assert inside.mean() > 1, "discs are bright, and stay under their mask however a window is rotated"
        assert outside.mean() < -1
        break


def test_the_command_trains_a_model_that_serves(tmp_path: Path) -> None:
    images, masks = write_folders(tmp_path / "data")
    small = {"features": "4,8", "steps": "30", "batch": "4", "window": "32", "lr": "0.01", "classes": "disc"}
    options = [part for name, value in small.items() for part in (f"--{name}", value)]
    arguments = ["train", "unet", str(images), str(masks), "--name", "mine", "--data-dir", str(tmp_path)]
    arguments += ["--suits", "cells", "--suits", "tissue"]
    result = CliRunner().invoke(cli, arguments + options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "mine: ready" in result.output
    assert Bundle(tmp_path / "models/mine").manifest.suits == (Subject.CELLS, Subject.TISSUE)
    assert "Best on the held-out images: step" in result.output
    with Image.open(tmp_path / "training/mine/curves.png") as curves:
        assert curves.format == "PNG"
    server = Server(tmp_path)
    try:
        image_id = server.upload(images / "discs-0.png")
        response = server.client.post(
            "/v1/semantic", json={"image_id": image_id, "model": "mine", "format": "npy"}
        )
        assert response.status_code == 200, response.text
        (tmp_path / "map.npy").write_bytes(response.content)
        prediction = np.load(tmp_path / "map.npy") > 0
        assert dice(draw_discs(0).mask > 0, prediction) > 0.8
    finally:
        server.stop()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a window that the levels do not divide": ({"window_px": 30}, "window"),
    "a value without a class": ({"classes": ("a", "b")}, "classes"),
    "a missing device": ({"device": "cuda"}, "device"),
    "an unknown encoder": ({"encoder": "resnet1"}, "encoder"),
    "more levels than the encoder has": (
        {"encoder": "resnet18", "features": (4,) * 6, "window_px": 128},
        "features",
    ),
    "an encoder that a TransUNet has not": (
        {"architecture": Architecture.TRANSUNET, "features": None, "encoder": "resnet18"},
        "encoder",
    ),
    "levels that a TransUNet has not": ({"architecture": Architecture.TRANSUNET}, "features"),
    "weights of other classes": ({"class_weights": (1.0, 2.0, 3.0)}, "class_weights"),
    "weights beside generalised Dice": (
        {"class_weights": "auto", "loss": LossName.GENERALISED_DICE},
        "class_weights",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    changed, field = BAD[name]
    if name == "a missing device" and torch.cuda.is_available():
        pytest.skip("there is a GPU; this is about its absence")
    with pytest.raises(BadInput) as caught:
        train(tmp_path, TrainUnetOptions(**{**vars(OPTIONS), **changed}))
    assert caught.value.field == field
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "--features 16,x",
        "--features 4,,8",
        "--classes a,a",
        "--classes a,",
        "--class-weights 1,x",
        "--class-weights 0,0",
        "--class-weights=-1,2",
    ],
)
def test_options_that_cannot_be_parsed_are_refused(tmp_path: Path, arguments: str) -> None:
    images, masks = write_folders(tmp_path / "data")
    options = [
        "train",
        "unet",
        str(images),
        str(masks),
        "--name",
        "mine",
        "--data-dir",
        str(tmp_path / "home"),
    ]
    with pytest.raises(BadInput):
        CliRunner().invoke(cli, [*options, *arguments.split()], catch_exceptions=False)
    assert not (tmp_path / "home").exists()


def resume_with_other_seed(root: Path) -> None:
    train(root, TrainUnetOptions(**{**vars(OPTIONS), "seed": 5}), resume=True)


def resume_with_other_data(root: Path) -> None:
    train_new_unet(
        TRAINING[:2], VALIDATION, target(root), OPTIONS, ModelCard(), resume=True, progress=SilentProgress()
    )


def begin_again(root: Path) -> None:
    train(root)


def resume_without_a_run(root: Path) -> None:
    train(root / "elsewhere", resume=True)


def damage_the_checkpoint(root: Path) -> None:
    (root / "run/checkpoint.pt").write_bytes(b"no checkpoint")
    train(root, resume=True)


def delete_the_settings(root: Path) -> None:
    (root / "run/run.json").unlink()
    train(root)


@pytest.mark.parametrize(
    "attempt",
    [
        resume_with_other_seed,
        resume_with_other_data,
        begin_again,
        resume_without_a_run,
        damage_the_checkpoint,
        delete_the_settings,
    ],
)
def test_only_the_same_run_is_resumed(tmp_path: Path, attempt: Callable[[Path], None]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=InterruptAfter(5))
    with pytest.raises(BadInput) as caught:
        attempt(tmp_path)
    assert caught.value.remedy
    assert not (tmp_path / "models").exists()


def test_a_run_of_a_version_that_knew_one_network_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=InterruptAfter(9))
    path = tmp_path / "run/run.json"
    settings = json.loads(path.read_text())
    for name in ("architecture", "encoder", "loss", "class_weights"):
        del settings[name]
    path.write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="loss: bce-dice then, focal now"):
        train(tmp_path, TrainUnetOptions(**{**vars(OPTIONS), "loss": LossName.FOCAL}), resume=True)
    assert train(tmp_path, resume=True).summary.steps == OPTIONS.steps


def test_the_command_refuses_a_checkpoint_of_another_version_before_it_reads_images(tmp_path: Path) -> None:
    """Version 0.1.0 kept its best weights by other names."""
    run = tmp_path / "training/mine"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    state = {"network": {}, "best": {}, "best_dice": 0.5, "optimizer": {}, "step": 10, "stale": 0}
    torch.save(state, run / "checkpoint.pt")
    arguments = ["nowhere", "nowhere", "--name", "mine", "--data-dir", str(tmp_path), "--resume"]
    with pytest.raises(BadInput, match="written by another version of segserve") as caught:
        CliRunner().invoke(cli, ["train", "unet", *arguments], catch_exceptions=False)
    assert caught.value.field == "resume"
    assert caught.value.remedy
    assert (run / "run.json").read_text() == "{}"


def test_a_taken_name_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    with pytest.raises(BadInput, match="already a model"):
        train(tmp_path)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil_weights(trainer: UnetTrainer, *rest: Any, **more: Any) -> None:
        torch.nn.init.constant_(trainer.network.final_conv.weight, float("nan"))

    monkeypatch.setattr(module, "fit", spoil_weights)
    with pytest.raises(Exception, match="differs"):
        train(tmp_path)
    assert not list((tmp_path / "models").glob("[!.]*"))
