"""Train `starter-unet` from zero and publish it: `python training/unet.py --data NUCLEI --run DIR`. --resume continues.

It is `segserve train unet` with two differences. The same images are held out as for the starter, and rare appearances
are shown more often.
"""

import argparse
import math
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from nuclei import read_nuclei
from segserve.models.importers.import_request import ModelCard
from segserve.models.manifest import Subject
from segserve.models.registry import BUILT_IN_MODELS
from segserve.train.dataset_folder import LabelledImage
from segserve.train.output_target import OutputTarget
from segserve.train.train_unet import TrainUnetOptions, train_new_unet

NAME = "starter-unet"
CARD = Path(__file__).parent / f"{NAME}.md"
ABOUT = ModelCard(
    "Small U-Net for nuclei; the semantic example that ships with segserve",
    "Apache-2.0",
    "trained from zero by training/unet.py on CC0 nuclei",
    (Subject.NUCLEI,),
)


def repeat_rare(images: list[LabelledImage]) -> list[LabelledImage]:
    """Repeat images of rare appearances, by the square root of their rarity. 13 of 540 would hardly be learned.

    An appearance is a size of image, which here tells the microscopes apart.
    """
    counts = Counter(image.mask.shape for image in images)
    max_count = max(counts.values())
    return [image for image in images for _ in range(round(math.sqrt(max_count / counts[image.mask.shape])))]


class ProgressBar:
    """`ProgressBar` shows the steps in a bar, and prints stages and scores."""

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
    parser.add_argument(
        "--run", type=Path, default=Path("training/runs/unet"), help="folder of checkpoint and scores"
    )
    parser.add_argument("--steps", type=int, default=TrainUnetOptions.steps)
    parser.add_argument("--batch", type=int, default=TrainUnetOptions.batch_size)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--to", type=Path, default=BUILT_IN_MODELS, help="the folder of bundles to publish to"
    )
    arguments = parser.parse_args()
    training, validation = read_nuclei(arguments.data)
    options = TrainUnetOptions(classes=("nucleus",), steps=arguments.steps, batch_size=arguments.batch)
    target = OutputTarget(arguments.to, NAME, arguments.run, replace=True)
    trained = train_new_unet(
        repeat_rare(training),
        validation,
        target,
        options,
        ABOUT,
        resume=arguments.resume,
        progress=ProgressBar(arguments.steps),
    )
    best = trained.summary.best
    scores = (
        f"Dice {best['dice']:.3f} on the {len(validation)} validation images, after {best['step']:.0f} steps."
    )
    (trained.bundle.folder / "README.md").write_text(CARD.read_text().replace("@SCORES@", scores))


if __name__ == "__main__":
    main()
