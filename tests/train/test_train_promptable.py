"""`segserve train promptable`: it learns, resumes where it stopped, and the service uses the bundle at once."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segserve.errors import BadInput, WrongModel
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers import sam
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import BundleRuntime, ModelKind, PromptableManifest
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.weights import read_weights
from segserve.train import train_promptable, trainable_networks
from segserve.train.augmentation import ColourAugmentation
from segserve.train.output_target import OutputTarget
from segserve.train.progress import SilentProgress
from segserve.train.promptable_dataset import UniformScenePicker, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.scenes import build_scene
from segserve.train.train_promptable import TrainPromptableOptions, build_geometry
from segserve.train.trainable_networks import load_trainable
from tests.models.networks import small_sam
from tests.semantic import bundles
from tests.serving import Server
from tests.train.drawn_discs import draw_discs, write_folders

STARTER = Bundle(BUILT_IN_MODELS / "starter")
IMAGES = [draw_discs(seed) for seed in range(3)]
OPTIONS = TrainPromptableOptions(steps=3, batch_size=2, window_px=128, num_workers=0)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_promptable, "plot_curves", lambda lines, path: None)


def target(root: Path, name: str = "mine") -> OutputTarget:
    return OutputTarget(root / "models", name, root / "run")


def train(
    root: Path, bundle: Bundle = STARTER, options: TrainPromptableOptions = OPTIONS, **more: Any
) -> Bundle:
    return train_promptable.fine_tune(
        IMAGES, bundle, target(root), options, **{"progress": SilentProgress(), **more}
    )


class InterruptAfter(SilentProgress):
    """Interrupts, as a user does, after `after` steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        if done == self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from the starter."""
    root = tmp_path_factory.mktemp("fine-tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_promptable, "plot_curves", lambda lines, path: None)
        train(root)
    return root


def test_every_part_learns() -> None:
    trainable = load_trainable(STARTER)
    assert not trainable.automatic_is_new
    geometry = build_geometry(trainable, 128)
    scenes = [
        build_scene(each, STARTER.expect(PromptableManifest).preprocess.to_preprocess()) for each in IMAGES
    ]
    [batch] = build_data_loader(
        UniformScenePicker(scenes),
        ColourAugmentation(),
        geometry,
        seed=0,
        steps=range(1),
        batch_size=4,
        num_workers=0,
    )
    trainer = PromptableTrainer(
        trainable.networks, geometry, PromptableSchedule(steps=40, learning_rate=1e-3), seed=0
    )
    before = {name: value.clone() for name, value in trainable.networks.named_parameters()}
    losses = [trainer.train_step(batch) for _ in range(16)]
    for part in ("promptable", "automatic"):
        values = [line[part] for line in losses]
        assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])
    unmoved = [
        name for name, value in trainable.networks.named_parameters() if torch.equal(value, before[name])
    ]
    assert {name for name in unmoved if "point_embeddings.0" not in name} == set(), (
        "clicks that exclude are rare"
    )


def test_a_resumed_run_ends_as_an_uninterrupted_one(fine_tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=InterruptAfter(2))
    assert not (tmp_path / "models").exists()
    resumed = train(tmp_path, resume=True)
    expected = read_weights(Bundle(fine_tuned / "models/mine"))
    for part, state in read_weights(resumed).items():
        assert all(torch.equal(value, expected[part][key]) for key, value in state.items())
    scores = [(root / "run/scores.jsonl").read_text() for root in (fine_tuned, tmp_path)]
    assert scores[0] == scores[1]


def test_it_is_validated_before_and_after(fine_tuned: Path) -> None:
    lines = [json.loads(line) for line in (fine_tuned / "run/scores.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert set(lines[0]) == {"step", "click", "box", "corrected", "foreground_dice"}
    assert set(lines[3]) == {*lines[0], "loss_promptable", "loss_automatic"}
    assert lines[0]["click"] > 0.5, "the starter knows discs"


def test_the_bundle_serves_clicks_and_automatic_segmentation(fine_tuned: Path, tmp_path: Path) -> None:
    images, _ = write_folders(tmp_path)
    shutil.copytree(fine_tuned / "models", tmp_path / "home/models")
    bundle = Bundle(tmp_path / "home/models/mine")
    assert bundle.expect(PromptableManifest).preprocess == STARTER.expect(PromptableManifest).preprocess
    server = Server(tmp_path / "home")
    try:
        image_id = server.upload(images / "discs-0.png")
        mask = draw_discs(0).mask == 1
        y, x = (float(each.mean()) for each in np.nonzero(mask))
        response = server.click(image_id, x, y, model="mine")
        assert response.status_code == 200, response.text
        assert response.json()["results"][0]["masks"][0]["area"] > 0
        body = {"image_id": image_id, "model": "mine", "method": "ais", "format": "rle"}
        response = server.client.post("/v1/automatic", json=body)
        assert response.status_code == 200, response.text
    finally:
        server.stop()


def test_a_trained_bundle_can_be_trained_further(fine_tuned: Path) -> None:
    trainable = load_trainable(Bundle(fine_tuned / "models/mine"))
    assert (trainable.automatic_is_new, trainable.takes_windows) == (False, True)


@pytest.fixture(scope="module")
def small_vit_b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """A SAM imported with its weights; a small one stands for vit_b."""
    root = tmp_path_factory.mktemp("sam")
    torch.save(small_sam(3).state_dict(), root / "sam.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sam, "VARIANT_BY_WIDTH", {32: "vit_b"})
        patch.setattr(sam, "sam_model_registry", {"vit_b": small_sam})
        patch.setitem(trainable_networks.BUILDER_BY_ARCHITECTURE, "vit_b", lambda: small_sam(seed=9))
        yield import_checkpoint("sam", root / "sam.pth", "sam", root / "models", keep_weights=True)


def test_an_import_keeps_the_weights(small_vit_b: Bundle) -> None:
    expected = small_sam(3).state_dict()
    weights = read_weights(small_vit_b)["sam"]
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in weights.items())


def test_all_parts_of_a_sam_are_trained_and_it_gets_an_automatic_decoder(
    tmp_path: Path, small_vit_b: Bundle
) -> None:
    bundle = train(tmp_path, small_vit_b, TrainPromptableOptions(steps=1, num_workers=0))
    assert (bundle.manifest.architecture, bundle.has("ais.onnx")) == ("vit_b", True)
    before, after = read_weights(small_vit_b)["sam"], read_weights(bundle)["sam"]
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    for part in ("image_encoder.", "prompt_encoder.", "mask_decoder."):
        assert any(key.startswith(part) for key in moved)


def test_the_ema_of_a_mobile_sam_pairs_tensors_by_name() -> None:
    """TinyViT has other buffers in training than in evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam.modeling import TinyViT
    networks = torch.nn.ModuleDict({"sam": TinyViT(embed_dims=[8, 16, 16, 320], num_heads=[1, 2, 2, 10])})
    geometry = build_geometry(load_trainable(STARTER), 128)
    trainer = PromptableTrainer(networks, geometry, PromptableSchedule(steps=3, learning_rate=1e-3), seed=0)
    for value in range(2, 5):
        for tensor in (*networks.parameters(), *networks.buffers()):
            tensor.data.fill_(value)
        trainer.update_ema()
        trainer.step += 1
        trainer.ema.eval()
    assert trainer.schedule.ema_decay == 0, "over so few steps the EMA is the last state"
    last = trainer.networks.state_dict()
    for key, value in trainer.ema.state_dict().items():
        assert torch.equal(value, last[key]), key


def test_a_sam_without_weights_says_how_to_get_them(tmp_path: Path, small_vit_b: Bundle) -> None:
    shutil.copytree(small_vit_b.folder, tmp_path / "sam")
    (tmp_path / "sam/weights.safetensors").unlink()
    without = write_manifest(tmp_path / "sam", small_vit_b.manifest)
    with pytest.raises(BadInput, match=r"no weights.*--keep-weights") as caught:
        train(tmp_path, without)
    assert caught.value.field == "from"
    assert not (tmp_path / "run").exists()


def test_a_sam_takes_no_window_smaller_than_its_input(tmp_path: Path, small_vit_b: Bundle) -> None:
    with pytest.raises(BadInput, match="the whole input of 256 pixels"):
        train(tmp_path, small_vit_b, TrainPromptableOptions(window_px=128))


def copy_starter(root: Path, **update: Any) -> Bundle:
    folder = root / "changed"
    shutil.copytree(STARTER.folder, folder)
    return write_manifest(folder, STARTER.manifest.model_copy(update=update))


@pytest.mark.parametrize(
    "update", [{"kind": ModelKind.SAM2}, {"architecture": "vit_x"}, {"runtime": BundleRuntime.STOCK}], ids=str
)
def test_a_model_that_cannot_be_trained_is_refused(tmp_path: Path, update: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="cannot be trained") as caught:
        load_trainable(copy_starter(tmp_path, **update))
    assert caught.value.field == "from"


def test_a_model_that_takes_no_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongModel):
        load_trainable(bundles.write(tmp_path, bundles.Channels()))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a checkpoint of vit_b"):
        load_trainable(copy_starter(tmp_path, architecture="vit_b"))


@pytest.mark.parametrize("window", [100, 32, 1024])
def test_a_window_that_does_not_fit_is_refused(tmp_path: Path, window: int) -> None:
    with pytest.raises(BadInput, match="does not fit") as caught:
        train(tmp_path, options=TrainPromptableOptions(window_px=window))
    assert caught.value.field == "window"
    assert not list(tmp_path.iterdir())


def resume_from_other_model(root: Path, fine_tuned: Bundle) -> None:
    train(root, fine_tuned, resume=True)


def resume_with_other_rate(root: Path, fine_tuned: Bundle) -> None:
    train(root, options=TrainPromptableOptions(**{**vars(OPTIONS), "learning_rate": 1e-5}), resume=True)


def begin_again(root: Path, fine_tuned: Bundle) -> None:
    train(root)


@pytest.mark.parametrize("attempt", [resume_from_other_model, resume_with_other_rate, begin_again])
def test_only_the_same_run_is_resumed(
    fine_tuned: Path, tmp_path: Path, attempt: Callable[[Path, Bundle], None]
) -> None:
    shutil.copytree(fine_tuned / "run", tmp_path / "run")
    with pytest.raises(BadInput) as caught:
        attempt(tmp_path, Bundle(fine_tuned / "models/mine"))
    assert caught.value.remedy
    assert not (tmp_path / "models").exists()
