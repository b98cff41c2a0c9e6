"""Training a U-Net: cross-entropy plus Dice, AdamW, a cosine schedule, stopped early by the validation Dice."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from segserve.train.augmentation import WindowAugmentation
from segserve.train.dataset_folder import LabelledImage
from segserve.train.losses import bce_dice_loss
from segserve.train.scenes import stretch_contrast
from segserve.types import UInt8

STRETCH_PERCENTILES = (
    1.0,
    99.9,
)  # percentiles of all channels together: many fluorescence images are nearly black
MEAN, STD = 0.5, 0.25  # of what the percentiles made 0 to 1
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
WARM_UP_SHARE = 0.05  # of the steps
VALIDATION_TILE_PX = 1024  # pixels a side; larger images are judged in parts
MIN_DICE_GAIN = 1e-4  # of the Dice, to count as better


@dataclass(frozen=True)
class UnetRecipe:
    """steps: at most. window: pixels. every: steps between two looks at the validation images. patience: looks
    without a better Dice before it stops."""

    steps: int
    batch: int
    window: int
    rate: float
    seed: int
    every: int
    patience: int

    def rate_at(self, step: int) -> float:
        warm_up = max(1, round(WARM_UP_SHARE * self.steps))
        done = max(0, step - warm_up) / max(1, self.steps - warm_up)
        return self.rate * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * done))


def stretch_image(found: LabelledImage) -> LabelledImage:
    return LabelledImage(found.name, stretch_contrast(found.image, STRETCH_PERCENTILES), found.mask)


def normalise_image(image: UInt8) -> NDArray[np.float32]:
    """[h, w, 3] -> [3, h, w]."""
    return np.asarray((image / 255 - MEAN) / STD, np.float32).transpose(2, 0, 1)


def one_hot_mask(mask: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """[h, w] -> [classes, h, w]: one class is whatever is not background, several are the values from 1."""
    if classes == 1:
        return (mask > 0)[None].astype(np.float32)
    return (mask[None] == np.arange(1, classes + 1)[:, None, None]).astype(np.float32)


class UnetWindows(Dataset[tuple[NDArray[np.float32], NDArray[np.float32]]]):
    """Window number i of an endless stream: the same for the same seed, wherever one begins."""

    def __init__(self, scenes: list[LabelledImage], classes: int, recipe: UnetRecipe, numbers: range) -> None:
        self.scenes, self.classes, self.numbers = scenes, classes, numbers
        self.seed, self.window = recipe.seed, WindowAugmentation(recipe.window)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self.seed, self.numbers[index]])
        scene = self.scenes[rng.integers(len(self.scenes))]
        image, mask = self.window(scene.image, scene.mask, rng)
        return normalise_image(image), one_hot_mask(mask, self.classes)


def build_data_loader(
    scenes: list[LabelledImage], classes: int, recipe: UnetRecipe, first: int, workers: int
) -> Iterable[tuple[Tensor, Tensor]]:
    """One batch for each step from `first`: images [B, 3, W, W], truth [B, classes, W, W]."""
    numbers = range(first * recipe.batch, recipe.steps * recipe.batch)
    ahead = 8 if workers else None
    windows = UnetWindows(scenes, classes, recipe, numbers)
    return DataLoader(windows, recipe.batch, num_workers=workers, prefetch_factor=ahead)


class UnetTrainer:
    """Everything a checkpoint holds: the network and its best state so far, the optimiser, the step.

    network: with an attribute `multiple`, which the edges of what it sees must divide by.
    """

    def __init__(self, network: Any, classes: int, recipe: UnetRecipe, device: str) -> None:
        self.network, self.classes, self.recipe, self.device = network.to(device), classes, recipe, device
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=WEIGHT_DECAY)
        self.step, self.stale, self.best_dice = 0, 0, -1.0
        self.best = copy.deepcopy(network.state_dict())

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "stale": self.stale,
            "best_dice": self.best_dice,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_dice = state["best"], state["best_dice"]
        self.step, self.stale = state["step"], state["stale"]

    @property
    def stopped(self) -> bool:
        return self.step >= self.recipe.steps or self.stale >= self.recipe.patience

    def update(self, images: Tensor, truth: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.network.train()
        loss = bce_dice_loss(self.network(images.to(self.device)), truth.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        return float(loss.item())

    def look(self, validation: list[LabelledImage]) -> dict[str, float]:
        """The scores on the validation images; a better Dice makes these weights the best ones."""
        scores = validate_unet(self.network, validation, self.classes, self.device)
        if scores["dice"] > self.best_dice + MIN_DICE_GAIN:
            self.best_dice, self.stale = scores["dice"], 0
            self.best = copy.deepcopy(self.network.state_dict())
        else:
            self.stale += 1
        return scores


def fit(
    training: UnetTrainer,
    learn: list[LabelledImage],
    validation: list[LabelledImage],
    *,
    workers: int,
    on_step: Callable[[int, float], None],
    on_look: Callable[[dict[str, float]], None],
) -> None:
    """Train until the steps are done or the validation Dice has stopped to rise; then the network has its best
    weights. learn, validation: stretched. on_look is called with the scores, the mean loss since the last call
    and the step; that is when a checkpoint is worth keeping."""
    recipe, losses = training.recipe, list[float]()
    if not training.stopped:
        for images, truth in build_data_loader(learn, training.classes, recipe, training.step, workers):
            losses.append(training.update(images, truth))
            on_step(training.step, losses[-1])
            if training.step % recipe.every == 0 or training.step == recipe.steps:
                scores = training.look(validation)
                on_look({"step": training.step, "loss": float(np.mean(losses)), **scores})
                losses = []
            if training.stopped:
                break
    training.network.load_state_dict(training.best)


@torch.no_grad()
def validate_unet(network: Any, scenes: list[LabelledImage], classes: int, device: str) -> dict[str, float]:
    """Loss and Dice of whole images, stretched; each is the mean over images, of an image's Dice over the
    classes that it or the answer has."""
    network.eval()
    dices, losses = [], []
    for scene in scenes:
        logits = predict_image(network, scene.image, device)
        truth = torch.from_numpy(one_hot_mask(scene.mask, classes))
        losses.append(float(bce_dice_loss(logits[None], truth[None])))
        found, real = logits > 0, truth > 0
        both = (found.sum((1, 2)) + real.sum((1, 2))).float()
        overlap = 2 * (found & real).sum((1, 2)).float()
        dices.append(float((overlap / both)[both > 0].mean()) if bool((both > 0).any()) else 1.0)
    return {"loss_validation": float(np.mean(losses)), "dice": float(np.mean(dices))}


def predict_image(network: Any, image: UInt8, device: str) -> Tensor:
    """Logits [classes, H, W] of an image [H, W, 3], on the CPU."""
    height, width = image.shape[:2]
    rows = []
    for y in range(0, height, VALIDATION_TILE_PX):
        part = image[y : y + VALIDATION_TILE_PX]
        tiles = [
            predict_tile(network, part[:, x : x + VALIDATION_TILE_PX], device)
            for x in range(0, width, VALIDATION_TILE_PX)
        ]
        rows.append(torch.cat(tiles, dim=2))
    return torch.cat(rows, dim=1)


def predict_tile(network: Any, image: UInt8, device: str) -> Tensor:
    height, width = image.shape[:2]
    missing = (0, -width % network.multiple, 0, -height % network.multiple)
    padded = F.pad(torch.from_numpy(normalise_image(image))[None], missing, mode="replicate")
    logits: Tensor = network(padded.to(device))[0, :, :height, :width].cpu()
    return logits
