"""Train the starter from zero: `python training/train.py --data NUCLEI --run DIR`. Run it again to resume.

It trains on windows of nuclei and of drawn scenes, by the steps of `segserve.train`. Validation is on whole images.
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

from scenes import SCENE_PREPROCESS, STARTER_PREPROCESS, draw_scene, read_nuclei, recolour
from segserve.automatic.parameters import AisParams
from segserve.models.networks.starter import ENCODER_STRIDE, AutomaticDecoder, build_starter_sam
from segserve.train.checkpoint import load_checkpoint, save_checkpoint
from segserve.train.promptable_dataset import WindowGeometry, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.promptable_validation import validate_promptable
from segserve.train.scenes import Scene, build_scene

WINDOW_PX = 256
BATCH_SIZE = 8
DRAWN_SHARE = 0.25  # of the windows
UNCORRECTED_STEPS = 800  # the network learns the first prediction before corrections


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/, labels/ and index.json"
    )
    parser.add_argument(
        "--run", type=Path, default=Path("training/runs/starter"), help="folder of checkpoint and scores"
    )
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--rate", type=float, default=8e-4, help="peak learning rate")
    parser.add_argument("--drawn", type=int, default=600, help="number of drawn scenes")
    parser.add_argument("--every", type=int, default=500, help="steps from one validation to the next")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    checkpoint = options.run / "checkpoint.pt"
    torch.manual_seed(options.seed)
    networks = nn.ModuleDict({"sam": build_starter_sam(), "automatic": AutomaticDecoder()})
    geometry = WindowGeometry(SCENE_PREPROCESS, WINDOW_PX, ENCODER_STRIDE)
    schedule = PromptableSchedule(options.steps, options.rate, uncorrected_steps=UNCORRECTED_STEPS)
    trainer = PromptableTrainer(networks, geometry, schedule, options.seed)
    if checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint))
    split = read_nuclei(options.data)
    nuclei, validation = ([build_scene(image, STARTER_PREPROCESS) for image in images] for images in split)
    drawn = [draw_scene(seed) for seed in tqdm(range(options.drawn), desc="drawing")]
    loader = build_data_loader(
        BalancedScenePicker(nuclei, drawn),
        recolour,
        geometry,
        seed=options.seed,
        steps=range(trainer.step, options.steps),
        batch_size=BATCH_SIZE,
        num_workers=1,
    )
    bar = tqdm(loader, initial=trainer.step, total=options.steps, desc="training")
    losses: dict[str, float] = {}
    for batch in bar:
        for name, loss in trainer.train_step(batch).items():
            losses[name] = 0.98 * losses.get(name, loss) + 0.02 * loss  # a moving average
        bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()})
        if trainer.step % options.every == 0 or trainer.step == options.steps:
            scenes = validation if trainer.step == options.steps else validation[::4]
            scores = validate_promptable(trainer.ema, scenes, SCENE_PREPROCESS, ais=AisParams())
            line = {"step": trainer.step, "time": round(time.time()), **losses, **scores}
            with (options.run / "scores.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            tqdm.write(json.dumps(line))
            save_checkpoint(trainer.state_dict(), checkpoint)


if __name__ == "__main__":
    main()
