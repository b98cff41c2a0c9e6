"""Train the starter: `python training/train.py --data NUCLEI --run DIR`. Run it again to resume.

It trains on windows of nuclei and of drawn scenes and on whole pictures, by the steps of `segserve.train`. It begins
from zero, or with the weights of a starter (`--begin-with`). Scores are those of images left aside for tuning.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from looks import change_look
from nuclei import SCENE_PREPROCESS, STARTER_PREPROCESS, read_nuclei, split_tuning
from scenes import draw_scene
from segserve.automatic.parameters import AisParams
from segserve.models.bundle import Bundle
from segserve.models.networks.starter import (
    ENCODER_STRIDE,
    FineAutomaticDecoder,
    build_fine_starter_sam,
    load_coarse_weights,
)
from segserve.models.weights import read_weights
from segserve.train.checkpoint import load_checkpoint, save_checkpoint
from segserve.train.promptable_dataset import WindowGeometry, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.promptable_validation import validate_promptable
from segserve.train.scenes import Scene, build_scene
from segserve.train.training_prompts import PromptMix
from views import CropPicker, mixed_view, whole_view

# A step has a batch of windows, and one of whole pictures.
WINDOW_PX, WINDOWS, WHOLES = 256, 6, 1
DRAWN_SHARE = 0.25  # of the windows
UNCORRECTED_STEPS = 800  # from zero, the network learns the first prediction before corrections
PROMPTS = PromptMix(rough_box=0.3, many_clicks=0.25, prior=0.15)


class BalancedScenePicker:
    """`BalancedScenePicker` picks drawn scenes and nuclei, and rare appearances of nuclei more often.

    An appearance is a size of image, which here tells the microscopes apart.
    """

    def __init__(self, nuclei: list[Scene], drawn: list[Scene]) -> None:
        self.nuclei, self.drawn = nuclei, drawn
        counts = Counter(scene.labels.shape for scene in nuclei)
        # The power evens out the appearances without drowning the common one.
        weights = np.array([counts[scene.labels.shape] ** -0.4 for scene in nuclei])
        self.weights = weights / weights.sum()

    def __call__(self, rng: np.random.Generator) -> Scene:
        if rng.random() < DRAWN_SHARE:
            return self.drawn[rng.integers(len(self.drawn))]
        return self.nuclei[rng.choice(len(self.nuclei), p=self.weights)]


def build_networks() -> nn.ModuleDict:
    return nn.ModuleDict({"sam": build_fine_starter_sam(), "automatic": FineAutomaticDecoder()})


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/, labels/ and index.json"
    )
    parser.add_argument(
        "--run", type=Path, default=Path("training/runs/starter"), help="folder of checkpoint and scores"
    )
    parser.add_argument(
        "--begin-with", type=Path, help="folder of a starter bundle, to begin with its weights"
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=8e-4, help="peak learning rate")
    parser.add_argument("--drawn", type=int, default=300, help="number of drawn scenes")
    parser.add_argument("--every", type=int, default=1000, help="steps from one scoring to the next")
    parser.add_argument("--save", type=int, default=100, help="steps from one checkpoint to the next")
    parser.add_argument("--bf16", action="store_true", help="multiply in bf16, where the CPU is faster so")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    options.run.mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(options)
    training, tuning = split_tuning(read_nuclei(options.data)[0])
    scenes, tuning_scenes = (
        [build_scene(image, STARTER_PREPROCESS) for image in images] for images in (training, tuning)
    )
    del training, tuning  # the scenes hold all that is used
    drawn = [draw_scene(seed) for seed in tqdm(range(options.drawn), desc="drawing")]
    picker, steps = BalancedScenePicker(scenes, drawn), range(trainer.step, options.steps)
    windows = build_data_loader(
        picker,
        change_look,
        trainer.geometry,
        seed=options.seed,
        steps=steps,
        batch_size=WINDOWS,
        num_workers=1,
        view=mixed_view,
    )
    wholes = build_data_loader(
        CropPicker(picker),
        change_look,
        WindowGeometry(SCENE_PREPROCESS, SCENE_PREPROCESS.input_size, ENCODER_STRIDE),
        seed=options.seed + 1,
        steps=steps,
        batch_size=WHOLES,
        num_workers=1,
        view=whole_view,
    )
    bar = tqdm(zip(windows, wholes, strict=True), initial=trainer.step, total=options.steps, desc="training")
    losses: dict[str, float] = {}
    for batches in bar:
        for name, loss in trainer.train_step(*batches).items():
            losses[name] = 0.98 * losses.get(name, loss) + 0.02 * loss  # a moving average
        bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()})
        is_last = trainer.step == options.steps
        if trainer.step % options.every == 0 or is_last:
            log_scores(options.run, trainer, tuning_scenes, losses)
        if trainer.step % options.save == 0 or is_last:
            save_checkpoint(trainer.state_dict(), options.run / "checkpoint.pt")


def build_trainer(options: argparse.Namespace) -> PromptableTrainer:
    """Return a trainer at the state of the run's checkpoint, or at the beginning."""
    torch.manual_seed(options.seed)
    networks = build_networks()
    if options.begin_with:
        weights = read_weights(Bundle(options.begin_with))
        for name, network in networks.items():
            load_coarse_weights(network, weights[name])
    schedule = PromptableSchedule(
        options.steps,
        options.rate,
        uncorrected_steps=0 if options.begin_with else UNCORRECTED_STEPS,
        prompts=PROMPTS,
        bf16=options.bf16,
    )
    geometry = WindowGeometry(SCENE_PREPROCESS, WINDOW_PX, ENCODER_STRIDE)
    trainer = PromptableTrainer(networks, geometry, schedule, options.seed)
    checkpoint = options.run / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint))
    return trainer


def log_scores(run: Path, trainer: PromptableTrainer, scenes: list[Scene], losses: dict[str, float]) -> None:
    """Append a line of losses and scores to the run's scores.jsonl."""
    scores = validate_promptable(trainer.ema, scenes, SCENE_PREPROCESS, ais=AisParams())
    line = {"step": trainer.step, "time": round(time.time()), **losses, **scores}
    with (run / "scores.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    tqdm.write(json.dumps(line))


if __name__ == "__main__":
    main()
