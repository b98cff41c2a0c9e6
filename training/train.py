"""Train the starter from zero: `python training/train.py --data NUCLEI --run DIR`. Run it again to resume.

What it learns from is special, windows of nuclei and drawn scenes; how it learns is `segserve.train`. Judged on
whole validation images.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from scenes import PLAIN, STARTER, draw_scene, read_nuclei, recolour
from segserve.models.networks.starter import ENCODER_STRIDE, AutomaticDecoder, build_starter_sam
from segserve.train.checkpoint import load_checkpoint, save_checkpoint
from segserve.train.promptable_dataset import WindowGeometry, build_data_loader
from segserve.train.promptable_trainer import PromptableSchedule, PromptableTrainer
from segserve.train.promptable_validation import validate_promptable
from segserve.train.scenes import Scene, build_scene

WINDOW = 256
BATCH = 8


class Looks:
    """A quarter drawn scenes, the rest nuclei."""

    def __init__(self, nuclei: list[Scene], drawn: list[Scene]) -> None:
        self.nuclei, self.drawn = nuclei, drawn
        # Looks differ in size of collection; the square root evens them out without drowning the common one.
        looks: dict[tuple[int, ...], int] = {}
        for scene in nuclei:
            looks[scene.labels.shape] = looks.get(scene.labels.shape, 0) + 1
        weights = np.array([looks[s.labels.shape] ** -0.4 for s in nuclei])
        self.weights = weights / weights.sum()

    def __call__(self, rng: np.random.Generator) -> Scene:
        if rng.random() < 0.25:
            return self.drawn[rng.integers(len(self.drawn))]
        return self.nuclei[rng.choice(len(self.nuclei), p=self.weights)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/, labels/ and index.json"
    )
    parser.add_argument(
        "--run", type=Path, default=Path("training/runs/starter"), help="checkpoints and scores"
    )
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--drawn", type=int, default=600, help="drawn scenes")
    parser.add_argument(
        "--every", type=int, default=500, help="steps between scores on some validation images"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    checkpoint = options.run / "checkpoint.pt"
    torch.manual_seed(options.seed)
    networks = nn.ModuleDict({"sam": build_starter_sam(), "automatic": AutomaticDecoder()})
    geometry, schedule = (
        WindowGeometry(PLAIN, WINDOW, ENCODER_STRIDE),
        PromptableSchedule(options.steps, options.rate, first_alone=800),
    )
    training = PromptableTrainer(networks, geometry, schedule, options.seed)
    if checkpoint.exists():
        training.load(load_checkpoint(checkpoint))
    nuclei, validation = ([build_scene(each, STARTER) for each in part] for part in read_nuclei(options.data))
    drawn = [draw_scene(seed) for seed in tqdm(range(options.drawn), desc="drawing")]
    loader = build_data_loader(
        Looks(nuclei, drawn),
        recolour,
        geometry,
        seed=options.seed,
        steps=range(training.step, options.steps),
        batch=BATCH,
        workers=1,
    )
    bar = tqdm(loader, initial=training.step, total=options.steps, desc="training")
    losses: dict[str, float] = {}
    for batch in bar:
        found = training.update(batch)
        losses = {**losses, **{k: 0.98 * losses.get(k, v) + 0.02 * v for k, v in found.items()}}
        bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()})
        if training.step % options.every == 0 or training.step == options.steps:
            chosen = validation if training.step == options.steps else validation[::4]
            scores = validate_promptable(training.averaged, chosen, PLAIN)
            line = {"step": training.step, "time": round(time.time()), **losses, **scores}
            with (options.run / "scores.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            tqdm.write(json.dumps(line))
            save_checkpoint(training.state(), checkpoint)


if __name__ == "__main__":
    main()
