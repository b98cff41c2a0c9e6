"""The training step of promptable models, as in Segment Anything for Microscopy (Archit et al., Nature Methods 2025).

Each object gets a first prompt, a click or a box. Then it gets corrective clicks where the prediction is wrong, half
the time with the last prediction as mask prompt. The automatic decoder (AIS) learns from the same embeddings.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.train.batched_decoder import MAX_ABS_LOGIT, decode_masks, encode_prompts
from segserve.train.ema import ema_decay, update_ema
from segserve.train.learning_rate_schedule import promptable_learning_rate
from segserve.train.losses import automatic_loss, candidate_iou, mask_loss
from segserve.train.promptable_dataset import WindowBatch, WindowGeometry
from segserve.train.training_prompts import TrainingPrompts

CORRECTION_PROBABILITIES = (0.5, 0.15, 0.12, 0.12, 0.11)  # of 0 to 4 corrective clicks
MASK_PROMPT_PROBABILITY = 0.5
SCORE_LOSS_WEIGHT = 5  # of the predicted IoU, against the loss of the masks
WEIGHT_DECAY = 0.02
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class PromptableSchedule:
    """How a run changes from step to step.

    steps: of the whole run.
    learning_rate: the peak, see `promptable_learning_rate`.
    uncorrected_steps: the first steps train the first prediction alone. A network that knows nothing yet predicts
    nothing that is worth correcting.
    """

    steps: int
    learning_rate: float
    uncorrected_steps: int = 0

    def learning_rate_at(self, step: int) -> float:
        return promptable_learning_rate(step, self.steps, self.learning_rate)

    @property
    def ema_decay(self) -> float:
        return ema_decay(self.steps)

    def draw_corrections(self, step: int, rng: np.random.Generator) -> int:
        """Return a random number of corrective clicks."""
        if step < self.uncorrected_steps:
            return 0
        return int(rng.choice(len(CORRECTION_PROBABILITIES), p=CORRECTION_PROBABILITIES))


def promptable_loss(
    sam: Any,
    embedding: Tensor,
    batch: WindowBatch,
    geometry: WindowGeometry,
    corrections: int,
    rng: np.random.Generator,
) -> Tensor:
    """Return the loss of the first prediction and of the one after all corrective clicks.

    embedding: [B, C, h, w], of the batch's windows.
    corrections: the number of corrective clicks.
    The loss is that of the best of the three candidates, of the single mask, and of the scores. The predictions between
    only say where to click, so they get no gradient.
    """
    low, cells = geometry.stride // 4, geometry.window // geometry.stride
    masks = torch.from_numpy(np.stack(batch.masks)).float()[:, None].to(embedding.device)
    truth = F.avg_pool2d(masks, low)
    grid = sam.prompt_encoder.get_dense_pe()
    corners = batch.offset // geometry.stride
    windows = torch.stack([grid[0, :, y : y + cells, x : x + cells] for y, x in corners])
    position, image = windows[batch.image_index], embedding[batch.image_index]
    prompts, mask_prompt = TrainingPrompts(batch, geometry.window, rng), None
    losses = []
    for prediction in range(corrections + 1):
        has_loss = prediction in (0, corrections)
        with torch.set_grad_enabled(has_loss):
            tokens = encode_prompts(sam, *prompts.to_tensors(embedding.device))
            logits, scores = decode_masks(sam, image, position, tokens, mask_prompt)
        if has_loss:
            loss, iou = mask_loss(logits, truth), candidate_iou(logits.detach(), truth)
            candidates = (loss[:, 0] + loss[:, 1:].min(1).values).mean()
            losses.append(candidates + SCORE_LOSS_WEIGHT * F.mse_loss(scores, iou))
        best = logits.detach()[torch.arange(len(logits)), scores.argmax(1)]
        full = F.interpolate(best[:, None], scale_factor=low, mode="bilinear")[:, 0]
        prompts.add_corrections((full > 0).cpu().numpy())
        with_mask = rng.random() < MASK_PROMPT_PROBABILITY
        mask_prompt = best[:, None].clamp(-MAX_ABS_LOGIT, MAX_ABS_LOGIT) if with_mask else None
    return torch.stack(losses).mean()


class PromptableTrainer:
    """`PromptableTrainer` trains step by step. It holds what a checkpoint saves: networks, EMA, optimiser, step.

    networks: a ModuleDict of "sam" and "automatic".
    ema: the moving average of the networks, which is validated and published.
    """

    def __init__(
        self, networks: nn.ModuleDict, geometry: WindowGeometry, schedule: PromptableSchedule, seed: int
    ) -> None:
        self.networks, self.geometry, self.schedule, self.seed = networks, geometry, schedule, seed
        self.ema = copy.deepcopy(networks).eval()
        self.optimizer = torch.optim.AdamW(
            networks.parameters(), lr=schedule.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint saves."""
        return {
            "networks": self.networks.state_dict(),
            "averaged": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.networks.load_state_dict(state["networks"])
        self.ema.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def train_step(self, batch: WindowBatch) -> dict[str, float]:
        """Train on a batch, and return the losses of the two parts by name.

        A batch without objects trains the automatic decoder alone.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.step)
        rng = np.random.default_rng([self.seed + 1, self.step])  # another stream than that of the windows
        self.networks.train()
        embedding = self.networks["sam"].image_encoder(batch.image)
        losses = {"automatic": automatic_loss(self.networks["automatic"](embedding), batch.maps)}
        if batch.masks:
            corrections = self.schedule.draw_corrections(self.step, rng)
            losses["promptable"] = promptable_loss(
                self.networks["sam"], embedding, batch, self.geometry, corrections, rng
            )
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.update_ema()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def update_ema(self) -> None:
        """Move the EMA towards the networks; the first step copies them."""
        update_ema(self.ema, self.networks, self.schedule.ema_decay if self.step else 0.0)
