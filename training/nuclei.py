"""The labelled nuclei of the built-in models: read from a folder, and split into training, tuning and validation."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from segserve.train.dataset_folder import LabelledImage
from segserve.types import Preprocess

STRETCH_PERCENTILES = (1.0, 99.9)  # mapped to 0 and 255: many fluorescence images are nearly black
STARTER_PREPROCESS = Preprocess(
    input_size=512,
    mean=(123.675, 116.28, 103.53),  # as SAM, so that one preprocessing serves all
    std=(58.395, 57.12, 57.375),
    resize="pad",
    stretch_percentiles=STRETCH_PERCENTILES,
)
# For scenes, whose contrast is stretched already.
SCENE_PREPROCESS = replace(STARTER_PREPROCESS, stretch_percentiles=None)
VALIDATION_SHARE = 0.1
# A part of this picture is stardist's 2D sample, by which the starter is judged.
JUDGED_BY_ELSEWHERE = {"4dbbb275960a"}
# Every so many images of the training part are left aside: weights and thresholds are chosen by their scores.
TUNING_INTERVAL = 18


def read_nuclei(folder: Path) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return (training, validation) images, as they are on disk.

    A tenth of the images is held out for validation. Each appearance (kind and size of image) gets its share of them
    in proportion to its number of images. What rounding down leaves over goes to the largest remainders. Within an
    appearance the hash of the id decides.
    """
    index = json.loads((folder / "index.json").read_text())
    appearances: dict[tuple[str, int, int], list[str]] = {}
    for entry in index:
        appearances.setdefault((entry["kind"], *entry["shape"][:2]), []).append(entry["id"])
    shares = {key: VALIDATION_SHARE * len(ids) for key, ids in appearances.items()}
    held_out = {key: int(share) for key, share in shares.items()}
    remaining = round(sum(shares.values())) - sum(held_out.values())
    for key in sorted(appearances, key=lambda key: (-(shares[key] % 1), key))[:remaining]:
        held_out[key] += 1
    training, validation = [], []
    for key, ids in appearances.items():
        ids.sort(key=lambda i: hashlib.sha256(i.encode()).hexdigest())
        for position, name in enumerate(ids):
            path = next((folder / "images").glob(f"{name}.*"))
            image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(str(folder / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            labelled = LabelledImage(name, image, mask.astype(np.int32))
            if position < held_out[key]:
                validation.append(labelled)
            elif name not in JUDGED_BY_ELSEWHERE:
                training.append(labelled)
    return training, validation


def split_tuning(training: list[LabelledImage]) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return (training, tuning) images: some of every appearance are left aside."""
    tuning = training[::TUNING_INTERVAL]
    return [image for index, image in enumerate(training) if index % TUNING_INTERVAL], tuning
