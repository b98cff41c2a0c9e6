"""`segserve train promptable`: it learns, resumes where it stopped, and the service uses the bundle at once."""

import copy
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from segserve.automatic.parameters import AisParams
from segserve.automatic.segmenter import label_by_ais
from segserve.cli import cli
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BadInput, WrongModel
from segserve.evaluate.object_matching import match_label_maps, mean_segmentation_accuracy
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import AisEntry, BundleRuntime, ModelKind, PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.weights import read_weights
from segserve.timing import Timings
from segserve.train import train_promptable, trainable_networks
from segserve.train.augmentation import ColourAugmentation
from segserve.train.output_target import OutputTarget
from segserve.train.progress import SilentProgress
from segserve.train.promptable_dataset import UniformScenePicker, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.promptable_validation import validate_promptable
from segserve.train.scenes import build_scene
from segserve.train.train_promptable import TrainPromptableOptions, build_geometry
from segserve.train.trainable_networks import load_trainable
from segserve.train.training_summary import TrainedModel
from segserve.types import Size
from tests.models.networks import small_sam
from tests.models.small_templates import use_small_templates, write_small_templates
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
    return train_and_summarise(root, bundle, options, **more).bundle


def train_and_summarise(
    root: Path, bundle: Bundle = STARTER, options: TrainPromptableOptions = OPTIONS, **more: Any
) -> TrainedModel:
    return train_promptable.fine_tune(
        IMAGES, bundle, target(root), options, **{"progress": SilentProgress(), **more}
    )


def read_scores(root: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / "run/scores.jsonl").read_text().splitlines()]


def score_as(monkeypatch: pytest.MonkeyPatch, *scores: dict[str, float]) -> None:
    """Give the validations of a run these scores, one after the other."""
    each = iter(scores)
    monkeypatch.setattr(train_promptable, "validate_promptable", lambda *rest, **more: next(each))


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


def test_batch_norms_take_their_statistics_from_the_first_batch() -> None:
    trainable = load_trainable(STARTER)
    preprocess = STARTER.expect(PromptableManifest).preprocess.to_preprocess()
    scenes = [build_scene(each, preprocess) for each in IMAGES]

    def draw(window: int, seed: int) -> Any:
        geometry = build_geometry(trainable, window)
        [batch] = build_data_loader(
            UniformScenePicker(scenes),
            ColourAugmentation(),
            geometry,
            seed=seed,
            steps=range(1),
            batch_size=2,
            num_workers=0,
        )
        return batch

    def statistics(*batches: Any) -> tuple[Any, Any]:
        networks = copy.deepcopy(trainable.networks)
        schedule = PromptableSchedule(steps=40, learning_rate=1e-4)
        PromptableTrainer(networks, build_geometry(trainable, 128), schedule, seed=0).train_step(*batches)
        norm = networks["sam"].image_encoder.stem[0][1]
        return norm.running_mean.clone(), networks["sam"].image_encoder.stem[0][0].weight.clone()

    first, second = draw(128, 0), draw(64, 1)
    alone, both = statistics(first), statistics(first, second)
    assert torch.equal(alone[0], both[0])
    assert not torch.equal(alone[1], both[1]), "the second batch has a gradient"
    assert not torch.equal(alone[0], statistics(second)[0])


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
    lines = read_scores(fine_tuned)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert set(lines[0]) == {"step", "click", "box", "corrected", "foreground_dice", "msa"}
    assert set(lines[3]) == {*lines[0], "loss_promptable", "loss_automatic"}
    assert lines[0]["click"] > 0.5, "the starter knows discs"
    assert lines[0]["msa"] > 0.3


def test_msa_is_that_of_evaluate_on_what_the_service_answers(tmp_path: Path) -> None:
    preprocess = STARTER.expect(PromptableManifest).preprocess.to_preprocess()
    scene = build_scene(IMAGES[0], preprocess)
    networks = load_trainable(STARTER).networks
    geometry = build_geometry(load_trainable(STARTER), 128)
    scores = validate_promptable(networks, [scene], geometry.preprocess, ais=AisParams())
    model = PromptableModel(STARTER, RuntimeOptions(threads=1), None, RuntimeOptions(threads=1))
    embedding = model.encode(preprocess_image(IMAGES[0].image, model.preprocess))
    labels = label_by_ais(model, embedding, Size(*IMAGES[0].mask.shape), AisEntry(), Timings())
    expected = mean_segmentation_accuracy(match_label_maps(IMAGES[0].mask, labels))
    assert scores["msa"] == pytest.approx(expected, abs=0.1), "the bundle's weights are fp16 in the graphs"
    assert scores["msa"] > 0.3


def scores_of(click: float, box: float, msa: float) -> dict[str, float]:
    return {"click": click, "box": box, "corrected": 0.5, "foreground_dice": 0.5, "msa": msa}


def test_the_weights_with_the_best_mean_score_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best is step 1: a lower IoU after clicks, more mSA. It is kept over an interruption."""
    lines = [scores_of(0.8, 0.8, 0.2), scores_of(0.7, 0.8, 0.5), scores_of(0.9, 0.8, 0.0)]
    score_as(monkeypatch, *lines, scores_of(0.6, 0.6, 0.6))
    kept: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=InterruptAfter(3))
    kept.append(torch.load(tmp_path / "run/checkpoint.pt", weights_only=True))
    trained = train_and_summarise(tmp_path, resume=True)
    summary = trained.summary
    assert (summary.best["step"], summary.steps, summary.improved) == (1, 3, True)
    assert summary.describe_scores() == "click 0.800 -> 0.700, box 0.800 -> 0.800, msa 0.200 -> 0.500"
    published = read_weights(trained.bundle)["sam"]
    best = kept[0]["best"]["weights"]
    assert all(torch.equal(value, best[f"sam.{key}"]) for key, value in published.items())
    last = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["averaged"]
    assert not all(torch.equal(value, last[f"sam.{key}"]) for key, value in published.items())


def test_where_nothing_improves_the_weights_of_the_start_are_published_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, masks = write_folders(tmp_path / "data")
    score_as(monkeypatch, scores_of(0.8, 0.8, 0.5), scores_of(0.9, 0.8, 0.3), scores_of(0.7, 0.7, 0.7))
    options = ["--steps", "2", "--batch", "1", "--window", "128", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(
        cli,
        ["train", "promptable", str(images), str(masks), "--name", "mine", *options],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "Nothing improved over starter in 2 steps: the weights of starter are kept" in result.output
    bundle = Bundle(tmp_path / "models/mine")
    assert bundle.manifest.description == "starter, unchanged by training on 3 images"
    assert bundle.manifest.suits == STARTER.manifest.suits
    before, after = read_weights(STARTER), read_weights(bundle)
    for part, state in before.items():
        assert all(torch.equal(value.float(), after[part][key].float()) for key, value in state.items())


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
        use_small_templates(patch, write_small_templates(root / "templates"))
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
    trained = train_and_summarise(tmp_path, small_vit_b, TrainPromptableOptions(steps=1, num_workers=0))
    bundle = trained.bundle
    start, end = read_scores(tmp_path)
    assert "msa" not in start, "no automatic decoder yet"
    assert "msa" in end
    assert trained.summary.best["step"] == 1, "random weights are no model, so the start cannot be the best"
    assert "-> " not in trained.summary.describe_scores().split("msa")[1]
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
