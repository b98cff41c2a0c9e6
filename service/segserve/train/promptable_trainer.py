"""The training step of promptable models, as in Segment Anything for Microscopy (Archit et al., Nature Methods 2025).

Each object gets a first prompt, a click or a box or more (`PromptMix`). Then it gets corrective clicks where the
prediction is wrong, half the time with the last prediction as mask prompt. The automatic decoder (AIS) learns from the
same embeddings.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.train.batched_decoder import (
    MAX_ABS_LOGIT,
    Features,
    decode_masks,
    encode_images,
    encode_prompts,
    predict_maps,
    select_images,
)
from segserve.train.ema import ema_decay, update_ema
from segserve.train.learning_rate_schedule import promptable_learning_rate
from segserve.train.losses import automatic_loss, candidate_iou, mask_loss, score_loss
from segserve.train.promptable_dataset import WindowBatch, WindowGeometry
from segserve.train.training_prompts import PromptMix, TrainingPrompts

CORRECTION_PROBABILITIES = (0.5, 0.15, 0.12, 0.12, 0.11)  # of 0 to 4 corrective clicks
MASK_PROMPT_PROBABILITY = 0.5
SCORE_LOSS_WEIGHT = 5  # of the predicted IoU, against the loss of the masks
# Input pixels of a pixel in which the IoU is measured that scores should predict: in low-res pixels it is too coarse.
SCORED_PX = 2
WEIGHT_DECAY = 0.02
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class PromptableSchedule:
    """How a run changes from step to step.

    steps: of the whole run.
    learning_rate: the peak, see `promptable_learning_rate`.
    uncorrected_steps: the first steps train the first prediction alone. A network that knows nothing yet predicts
    nothing that is worth correcting.
    prompts: the mixture of first prompts.
    bf16: compute products in bf16 (autocast), where the hardware multiplies so faster.
    """

    steps: int
    learning_rate: float
    uncorrected_steps: int = 0
    prompts: PromptMix = field(default_factory=PromptMix)
    bf16: bool = False

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
    features: Features,
    batch: WindowBatch,
    stride: int,
    schedule: PromptableSchedule,
    corrections: int,
    rng: np.random.Generator,
) -> Tensor:
    """Return the loss of the first prediction and of the one after all corrective clicks.

    features: of the batch's windows; the embedding is [B, C, h, w].
    stride: input pixels per cell of the embedding.
    corrections: the number of corrective clicks.
    The loss is that of the best of the three candidates, of the single mask, and of the scores. The predictions between
    only say where to click, so they get no gradient.
    """
    low, cells = stride // 4, batch.window // stride
    device = features["embedding"].device
    masks = torch.from_numpy(np.stack(batch.masks)).float()[:, None].to(device)
    truth, scored_truth = F.avg_pool2d(masks, low), F.avg_pool2d(masks, SCORED_PX)
    grid = sam.prompt_encoder.get_dense_pe()
    corners = batch.offset // stride
    windows = torch.stack([grid[0, :, y : y + cells, x : x + cells] for y, x in corners])
    position, features = windows[batch.image_index], select_images(features, batch.image_index)
    prompts = TrainingPrompts(batch, schedule.prompts, rng)
    mask_prompt = None
    if prompts.prior is not None:
        mask_prompt = F.avg_pool2d(torch.from_numpy(prompts.prior)[:, None].to(device), low)
    losses = []
    for prediction in range(corrections + 1):
        has_loss = prediction in (0, corrections)
        with torch.set_grad_enabled(has_loss):
            tokens = encode_prompts(sam, *prompts.to_tensors(device))  # in fp32: bf16 would round coordinates
            with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
                decoded = decode_masks(sam, features, position, tokens, mask_prompt)
            logits, scores = (each.float() for each in decoded)
        if has_loss:
            loss, iou = mask_loss(logits, truth), measure_iou(logits.detach(), scored_truth)
            candidates = (loss[:, 0] + loss[:, 1:].min(1).values).mean()
            losses.append(candidates + SCORE_LOSS_WEIGHT * score_loss(scores, iou))
        best = logits.detach()[torch.arange(len(logits)), scores.argmax(1)]
        full = F.interpolate(best[:, None], scale_factor=low, mode="bilinear")[:, 0]
        prompts.add_corrections((full > 0).cpu().numpy())
        with_mask = rng.random() < MASK_PROMPT_PROBABILITY
        mask_prompt = best[:, None].clamp(-MAX_ABS_LOGIT, MAX_ABS_LOGIT) if with_mask else None
    return torch.stack(losses).mean()


def measure_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU [N, M] of candidate masks, low-res logits [N, M, h, w], with a truth [N, 1, H, W] of any size."""
    return candidate_iou(F.interpolate(logits, truth.shape[2:], mode="bilinear"), truth)


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

    def train_step(self, first: WindowBatch, *others: WindowBatch) -> dict[str, float]:
        """Train on one or several batches, whose gradients are averaged; return the losses of the two parts by name.

        Batch norms take their statistics from the first batch, and use these for the others, which may be small.
        A batch without objects trains the automatic decoder alone.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate_at(self.step)
        rng = np.random.default_rng([self.seed + 1, self.step])  # another stream than that of the windows
        self.optimizer.zero_grad()
        losses: dict[str, list[float]] = {}
        for batch in (first, *others):
            self.networks.train()
            if batch is not first:
                fix_batch_norms(self.networks)
            parts = self.compute_losses(batch, rng)
            (torch.stack(list(parts.values())).sum() / (1 + len(others))).backward()
            for name, loss in parts.items():
                losses.setdefault(name, []).append(loss.item())
        nn.utils.clip_grad_norm_(self.networks.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.update_ema()
        self.step += 1
        return {name: float(np.mean(values)) for name, values in losses.items()}

    def compute_losses(self, batch: WindowBatch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the losses of the two parts by name: of the automatic decoder, and of prompts if there are objects."""
        sam, schedule = self.networks["sam"], self.schedule
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=schedule.bf16):
            features = encode_images(sam, batch.image)
            maps = predict_maps(self.networks["automatic"], features)
        losses = {"automatic": automatic_loss(maps.float(), batch.maps)}
        if batch.masks:
            corrections = schedule.draw_corrections(self.step, rng)
            losses["promptable"] = promptable_loss(
                sam, features, batch, self.geometry.stride, schedule, corrections, rng
            )
        return losses

    def update_ema(self) -> None:
        """Move the EMA towards the networks; the first step copies them."""
        update_ema(self.ema, self.networks, self.schedule.ema_decay if self.step else 0.0)


def fix_batch_norms(network: nn.Module) -> None:
    """Let batch norms compute with their running statistics, and leave these as they are."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
