"""Train `starter-unet` from zero and publish it: `python training/unet.py --data NUCLEI --run DIR`. With --resume
it goes on.

It is `segserve train unet` with the split of the starter, so that the same images stay held out, and with rare looks
shown more often.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from scenes import read_nuclei
from segserve.models.importers.import_request import ModelCard
from segserve.models.registry import BUILT_IN_MODELS
from segserve.train.dataset_folder import LabelledImage
from segserve.train.output_target import OutputTarget
from segserve.train.train_unet import TrainUnetOptions, train_unet_bundle

NAME = "starter-unet"
CARD = Path(__file__).parent / f"{NAME}.md"
ABOUT = ModelCard(
    "Small U-Net for nuclei; the semantic example that ships with segserve",
    "Apache-2.0",
    "trained from zero by training/unet.py on CC0 nuclei",
)


def evened(scenes: list[LabelledImage]) -> list[LabelledImage]:
    """Images of rare looks several times, by the square root of how rare: 13 of 540 would hardly be learned. A look
    is a size of image, which here tells the microscopes apart."""
    looks = Counter(scene.mask.shape for scene in scenes)
    most = max(looks.values())
    return [scene for scene in scenes for _ in range(round(math.sqrt(most / looks[scene.mask.shape])))]


class Bar:
    def __init__(self, steps: int) -> None:
        self.bar = tqdm(total=steps)

    def stage(self, name: str) -> None:
        tqdm.write(name)

    def steps(self, done: int, total: int, losses: dict[str, float]) -> None:
        self.bar.update(done - self.bar.n)

    def scores(self, line: dict[str, float]) -> None:
        tqdm.write(str({name: round(value, 4) for name, value in line.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with images/, labels/ and index.json"
    )
    parser.add_argument("--run", type=Path, default=Path("training/runs/unet"), help="checkpoints and scores")
    parser.add_argument("--steps", type=int, default=TrainUnetOptions.steps)
    parser.add_argument("--batch", type=int, default=TrainUnetOptions.batch)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--to", type=Path, default=BUILT_IN_MODELS, help="the folder of bundles to publish to"
    )
    asked = parser.parse_args()
    learn, held_out = read_nuclei(asked.data)
    options = TrainUnetOptions(classes=("nucleus",), steps=asked.steps, batch=asked.batch)
    target = OutputTarget(asked.to, NAME, asked.run, replace=True)
    bundle = train_unet_bundle(
        evened(learn), held_out, target, options, ABOUT, resume=asked.resume, progress=Bar(asked.steps)
    )
    looks = [json.loads(line) for line in (asked.run / "scores.jsonl").read_text().splitlines()]
    best = max(looks, key=lambda look: look["dice"])
    scores = f"Dice {best['dice']:.3f} on the {len(held_out)} validation images, after {best['step']} steps."
    (bundle.folder / "README.md").write_text(CARD.read_text().replace("@SCORES@", scores))


if __name__ == "__main__":
    main()
