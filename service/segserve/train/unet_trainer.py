"""The training of a U-Net: AdamW, a cosine schedule, early stopping by validation Dice."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segserve.errors import BadInput
from segserve.train.best_weights import BestWeights
from segserve.train.dataset_folder import LabelledImage
from segserve.train.learning_rate_schedule import unet_learning_rate
from segserve.train.unet_dataset import build_data_loader
from segserve.train.unet_losses import UnetLoss
from segserve.train.unet_validation import validate_unet

WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
# The names in a checkpoint, and in its "best".
STATE_NAMES = {"network", "best", "optimizer", "step", "stale"}
BEST_NAMES = {"step", "score", "weights"}


@dataclass(frozen=True)
class UnetRecipe:
    """The settings of a run.

    steps: the largest number of steps.
    batch_size: windows a step. window_px: the window's edge.
    learning_rate: the peak, see `unet_learning_rate`.
    validation_interval: steps from one validation to the next.
    patience: validations without a better Dice before training stops.
    loss: what is minimised.
    """

    steps: int
    batch_size: int
    window_px: int
    learning_rate: float
    seed: int
    validation_interval: int
    patience: int
    loss: UnetLoss


class UnetTrainer:
    """`UnetTrainer` trains step by step. It holds what a checkpoint saves: network, best weights, optimiser, step.

    best: of the trained weights, by validation Dice.
    network: as `build_network` returns it.
    stale: validations since the last better Dice.
    """

    def __init__(self, network: Any, classes: int, recipe: UnetRecipe, device: str) -> None:
        self.network, self.classes, self.recipe, self.device = network.to(device), classes, recipe, device
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.step, self.stale, self.best = 0, 0, BestWeights()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves."""
        return {
            "network": self.network.state_dict(),
            "best": self.best.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "stale": self.stale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best.load_state_dict(state["best"])
        self.step, self.stale = state["step"], state["stale"]

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, or early stopping has run out of patience."""
        return self.step >= self.recipe.steps or self.stale >= self.recipe.patience

    def train_step(self, images: Tensor, truth: Tensor) -> float:
        """Train on a batch of images [B, 3, W, W] and truth [B, classes, W, W], and return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = unet_learning_rate(self.step, self.recipe.steps, self.recipe.learning_rate)
        self.network.train()
        loss = self.recipe.loss(self.network(images.to(self.device)), truth.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        return float(loss.item())

    def validate(self, images: list[LabelledImage]) -> dict[str, float]:
        """Return the scores on held-out images, stretched, and keep the weights if the Dice is better.

        Weights that were not trained yet are only scored.
        """
        scores = validate_unet(self.network, images, self.classes, self.device, self.recipe.loss)
        if self.step:
            self.stale = 0 if self.best.offer(self.network, self.step, scores["dice"]) else self.stale + 1
        return scores


def check_state(state: dict[str, Any], path: Path) -> None:
    """Raise BadInput for a checkpoint of another version of segserve, which no trainer can continue from."""
    best = state.get("best")
    if state.keys() != STATE_NAMES or not isinstance(best, dict) or best.keys() != BEST_NAMES:
        raise BadInput(
            f"{path} was written by another version of segserve, and cannot be continued.",
            field="resume",
            remedy="Begin again with another --run, or delete the run's folder; or continue with that version.",
        )


def fit(
    trainer: UnetTrainer,
    training: list[LabelledImage],
    validation: list[LabelledImage],
    *,
    num_workers: int,
    on_step: Callable[[int, float], None],
    on_validation: Callable[[dict[str, float]], None],
) -> None:
    """Train until all steps are done or the validation Dice stops rising. Then the network has its best weights.

    training, validation: stretched images.
    on_step: called with the step and its loss.
    on_validation: called with "step", the mean "loss" since the last validation, and the scores; first of all with the
    scores at step 0, without a loss. It is the time to save a checkpoint.
    """
    recipe, losses = trainer.recipe, list[float]()
    if trainer.step == 0:
        on_validation({"step": 0, **trainer.validate(validation)})
    if not trainer.is_finished:
        loader = build_data_loader(
            training,
            trainer.classes,
            window_px=recipe.window_px,
            seed=recipe.seed,
            steps=range(trainer.step, recipe.steps),
            batch_size=recipe.batch_size,
            num_workers=num_workers,
        )
        for images, truth in loader:
            losses.append(trainer.train_step(images, truth))
            on_step(trainer.step, losses[-1])
            if trainer.step % recipe.validation_interval == 0 or trainer.step == recipe.steps:
                scores = trainer.validate(validation)
                on_validation({"step": trainer.step, "loss": float(np.mean(losses)), **scores})
                losses = []
            if trainer.is_finished:
                break
    trainer.best.load_into(trainer.network)
