"""`segserve train promptable`: it learns, goes on where it stopped, and what it makes serves."""

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
from segserve.train.train_promptable import TrainPromptableOptions, window_geometry
from segserve.train.trainable_networks import load_trainable
from tests.models.networks import small_sam
from tests.semantic import bundles
from tests.serving import Server
from tests.train.drawn import discs, folders

STARTER = Bundle(BUILT_IN_MODELS / "starter")
FOUND = [discs(seed) for seed in range(3)]
OPTIONS = TrainPromptableOptions(steps=3, batch=2, window=128, workers=0)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_promptable, "plot_curves", lambda lines, path: None)


def target(root: Path, name: str = "mine") -> OutputTarget:
    return OutputTarget(root / "models", name, root / "run")


def make(
    root: Path, bundle: Bundle = STARTER, options: TrainPromptableOptions = OPTIONS, **more: Any
) -> Bundle:
    return train_promptable.fine_tune(
        FOUND, bundle, target(root), options, **{"progress": SilentProgress(), **more}
    )


class Stop(SilentProgress):
    """Interrupts, as a user does, when so many steps are done."""

    def __init__(self, after: int) -> None:
        self.after = after

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        if done == self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from the starter, in a data folder of its own."""
    root = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_promptable, "plot_curves", lambda lines, path: None)
        make(root)
    return root


def test_every_part_learns() -> None:
    begun = load_trainable(STARTER)
    assert not begun.fresh
    geometry = window_geometry(begun, 128)
    scenes = [
        build_scene(each, STARTER.expect(PromptableManifest).preprocess.to_preprocess()) for each in FOUND
    ]
    [batch] = build_data_loader(
        UniformScenePicker(scenes), ColourAugmentation(), geometry, seed=0, steps=range(1), batch=4, workers=0
    )
    training = PromptableTrainer(begun.networks, geometry, PromptableSchedule(steps=40, rate=1e-3), seed=0)
    before = {name: value.clone() for name, value in begun.networks.named_parameters()}
    losses = [training.update(batch) for _ in range(16)]
    for part in ("promptable", "automatic"):
        values = [line[part] for line in losses]
        assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])
    unmoved = [name for name, value in begun.networks.named_parameters() if torch.equal(value, before[name])]
    assert {name for name in unmoved if "point_embeddings.0" not in name} == set(), (
        "clicks that exclude are rare"
    )


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, progress=Stop(after=2))
    assert not (tmp_path / "models").exists()
    resumed = make(tmp_path, resume=True)
    expected = read_weights(Bundle(tuned / "models/mine"))
    for part, state in read_weights(resumed).items():
        assert all(torch.equal(value, expected[part][key]) for key, value in state.items())
    scores = [(root / "run/scores.jsonl").read_text() for root in (tuned, tmp_path)]
    assert scores[0] == scores[1]


def test_it_is_judged_before_and_after(tuned: Path) -> None:
    lines = [json.loads(line) for line in (tuned / "run/scores.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert set(lines[0]) == {"step", "click", "box", "corrected", "foreground_dice"}
    assert set(lines[3]) == {*lines[0], "loss_promptable", "loss_automatic"}
    assert lines[0]["click"] > 0.5, "the starter knows discs"


def test_the_bundle_serves_clicks_and_automatic_segmentation(tuned: Path, tmp_path: Path) -> None:
    images, _ = folders(tmp_path)
    shutil.copytree(tuned / "models", tmp_path / "home/models")
    bundle = Bundle(tmp_path / "home/models/mine")
    assert bundle.expect(PromptableManifest).preprocess == STARTER.expect(PromptableManifest).preprocess
    server = Server(tmp_path / "home")
    try:
        image_id = server.upload(images / "discs-0.png")
        mask = discs(0).mask == 1
        y, x = (float(each.mean()) for each in np.nonzero(mask))
        answer = server.click(image_id, x, y, model="mine")
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["masks"][0]["area"] > 0
        body = {"image_id": image_id, "model": "mine", "method": "ais", "format": "rle"}
        found = server.client.post("/v1/automatic", json=body)
        assert found.status_code == 200, found.text
    finally:
        server.stop()


def test_what_it_makes_can_be_trained_further(tuned: Path) -> None:
    again = load_trainable(Bundle(tuned / "models/mine"))
    assert (again.fresh, again.windows) == (False, True)


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
    found = read_weights(small_vit_b)["sam"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_a_sam_is_trained_whole_and_gets_an_automatic_decoder(tmp_path: Path, small_vit_b: Bundle) -> None:
    bundle = make(tmp_path, small_vit_b, TrainPromptableOptions(steps=1, workers=0))
    assert (bundle.manifest.architecture, bundle.has("ais.onnx")) == ("vit_b", True)
    before, after = read_weights(small_vit_b)["sam"], read_weights(bundle)["sam"]
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    for part in ("image_encoder.", "prompt_encoder.", "mask_decoder."):
        assert any(key.startswith(part) for key in moved)


def test_the_average_of_a_mobile_sam_is_one_of_like_with_like() -> None:
    """TinyViT's buffers are others in training than when it is judged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mobile_sam.modeling import TinyViT
    networks = torch.nn.ModuleDict({"sam": TinyViT(embed_dims=[8, 16, 16, 320], num_heads=[1, 2, 2, 10])})
    geometry = window_geometry(load_trainable(STARTER), 128)
    training = PromptableTrainer(networks, geometry, PromptableSchedule(steps=3, rate=1e-3), seed=0)
    for value in range(2, 5):
        for tensor in (*networks.parameters(), *networks.buffers()):
            tensor.data.fill_(value)
        training.take_average()
        training.step += 1
        training.averaged.eval()
    assert training.schedule.average == 0, "over so few steps the average is the last state"
    last = training.networks.state_dict()
    for key, value in training.averaged.state_dict().items():
        assert torch.equal(value, last[key]), key


def test_a_sam_without_weights_says_how_to_get_them(tmp_path: Path, small_vit_b: Bundle) -> None:
    shutil.copytree(small_vit_b.folder, tmp_path / "sam")
    (tmp_path / "sam/weights.safetensors").unlink()
    without = write_manifest(tmp_path / "sam", small_vit_b.manifest)
    with pytest.raises(BadInput, match=r"no weights.*--keep-weights") as caught:
        make(tmp_path, without)
    assert caught.value.field == "from"
    assert not (tmp_path / "run").exists()


def test_a_sam_sees_the_whole_input(tmp_path: Path, small_vit_b: Bundle) -> None:
    with pytest.raises(BadInput, match="sees 256 pixels"):
        make(tmp_path, small_vit_b, TrainPromptableOptions(window=128))


def changed_copy(root: Path, **update: Any) -> Bundle:
    folder = root / "changed"
    shutil.copytree(STARTER.folder, folder)
    return write_manifest(folder, STARTER.manifest.model_copy(update=update))


@pytest.mark.parametrize(
    "update", [{"kind": ModelKind.SAM2}, {"architecture": "vit_x"}, {"runtime": BundleRuntime.STOCK}], ids=str
)
def test_a_model_that_cannot_be_trained_is_refused(tmp_path: Path, update: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="cannot be trained") as caught:
        load_trainable(changed_copy(tmp_path, **update))
    assert caught.value.field == "from"


def test_a_model_that_takes_no_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongModel):
        load_trainable(bundles.write(tmp_path, bundles.Channels()))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a checkpoint of vit_b"):
        load_trainable(changed_copy(tmp_path, architecture="vit_b"))


@pytest.mark.parametrize("window", [100, 32, 1024])
def test_a_window_that_does_not_fit_is_refused(tmp_path: Path, window: int) -> None:
    with pytest.raises(BadInput, match="does not fit") as caught:
        make(tmp_path, options=TrainPromptableOptions(window=window))
    assert caught.value.field == "window"
    assert not list(tmp_path.iterdir())


def other_model(root: Path, tuned: Bundle) -> None:
    make(root, tuned, resume=True)


def other_rate(root: Path, tuned: Bundle) -> None:
    make(root, options=TrainPromptableOptions(**{**vars(OPTIONS), "rate": 1e-5}), resume=True)


def again(root: Path, tuned: Bundle) -> None:
    make(root)


@pytest.mark.parametrize("attempt", [other_model, other_rate, again])
def test_only_the_same_run_is_gone_on_with(
    tuned: Path, tmp_path: Path, attempt: Callable[[Path, Bundle], None]
) -> None:
    shutil.copytree(tuned / "run", tmp_path / "run")
    with pytest.raises(BadInput) as caught:
        attempt(tmp_path, Bundle(tuned / "models/mine"))
    assert caught.value.remedy
    assert not (tmp_path / "models").exists()
