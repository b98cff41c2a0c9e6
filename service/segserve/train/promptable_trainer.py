"""One step of training a promptable model as Segment Anything for Microscopy does (Archit et al., Nature Methods
2025): a first prompt for each object, a click or a box, then corrective clicks where the answer is wrong, with the
last answer as mask prompt half the time; the automatic decoder learns from the same embeddings.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.masks.simulated_prompts import Click, click_random_error, jitter_box, random_pixel
from segserve.train.batched_decoder import decode_masks, encode_prompts
from segserve.train.losses import automatic_loss, candidate_iou, mask_loss
from segserve.train.promptable_dataset import WindowBatch, WindowGeometry

MAX_WARM_UP_STEPS = 200  # steps
MAX_EMA_DECAY = 0.998  # of the weights, over about 500 steps
CORRECTION_PROBABILITIES = (0.5, 0.15, 0.12, 0.12, 0.11)  # how often there are 0 to 4 corrective clicks
LOGIT_LIMIT = 32.0  # of a mask prompt, as the service clamps it
WEIGHT_DECAY = 0.02
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class PromptableSchedule:
    """steps: of the whole run. rate: the highest learning rate. first_alone: steps that train the first answer
    alone; a network that knows nothing has nothing worth correcting."""

    steps: int
    rate: float
    first_alone: int = 0

    def at(self, step: int) -> float:
        """Warm up over a tenth of the steps, 200 at most, stay, then fall to zero along a cosine over the last
        40%."""
        warm_up = max(1, min(MAX_WARM_UP_STEPS, self.steps // 10))
        if step < warm_up:
            return self.rate * (step + 1) / warm_up
        fall = max(0.0, (step - 0.6 * self.steps) / (0.4 * self.steps))
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))

    @property
    def average(self) -> float:
        """Decay of the weights' running average: over about a tenth of the steps, 500 at most."""
        return max(0.0, min(MAX_EMA_DECAY, 1 - 10 / self.steps))

    def corrections(self, step: int, rng: np.random.Generator) -> int:
        return (
            0
            if step < self.first_alone
            else int(rng.choice(len(CORRECTION_PROBABILITIES), p=CORRECTION_PROBABILITIES))
        )


class SimulatedPrompts:
    """The growing prompts of N objects, in coordinates of the whole input."""

    def __init__(self, batch: WindowBatch, window: int, rng: np.random.Generator) -> None:
        self.batch, self.rng = batch, rng
        count = len(batch.masks)
        self.shift = batch.offset[batch.owner.cpu().numpy()][:, ::-1].astype(np.float32)  # (x, y)
        self.points = np.zeros((count, 0, 2), np.float32)
        self.labels = np.zeros((count, 0), np.float32)
        self.boxes: NDArray[np.float32] | None = None
        if rng.random() < 0.4:
            boxes = [jitter_box(bounding_box(m), window, rng) for m in batch.masks]
            self.boxes = np.stack(boxes) + np.tile(self.shift, 2)
        if self.boxes is None or rng.random() < 0.15:
            self.add(
                (*(deepest_pixel(m) if rng.random() < 0.4 else random_pixel(m, rng)), 1) for m in batch.masks
            )

    def add(self, clicks: Iterable[Click]) -> None:
        new = np.array(list(clicks), np.float32)
        self.points = np.concatenate([self.points, (new[:, :2] + self.shift)[:, None]], 1)
        self.labels = np.concatenate([self.labels, new[:, 2:]], 1)

    def correct(self, found: NDArray[np.bool_]) -> None:
        """One click each where `found` [N, h, w] is wrong."""
        self.add(click_random_error(m, f, self.rng) for m, f in zip(self.batch.masks, found, strict=True))

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        boxes = None if self.boxes is None else torch.from_numpy(self.boxes).float().to(device)
        return torch.from_numpy(self.points).to(device), torch.from_numpy(self.labels).to(device), boxes


def promptable_loss(
    sam: Any,
    embedding: Tensor,
    batch: WindowBatch,
    geometry: WindowGeometry,
    corrections: int,
    rng: np.random.Generator,
) -> Tensor:
    """Loss of the first answer and of the one after so many corrective clicks: best of the three candidates,
    the single mask, the scores. The answers between only say where to correct, so they cost no gradient."""
    low, cells = geometry.stride // 4, geometry.window // geometry.stride
    masks = torch.from_numpy(np.stack(batch.masks)).float()[:, None].to(embedding.device)
    truth = F.avg_pool2d(masks, low)
    grid = sam.prompt_encoder.get_dense_pe()
    places = batch.offset // geometry.stride
    position = torch.stack([grid[0, :, y : y + cells, x : x + cells] for y, x in places])[batch.owner]
    image, prompts, prior = embedding[batch.owner], SimulatedPrompts(batch, geometry.window, rng), None
    losses = []
    for answer in range(corrections + 1):
        learning = answer in (0, corrections)
        with torch.set_grad_enabled(learning):
            tokens = encode_prompts(sam, *prompts.tensors(embedding.device))
            logits, scores = decode_masks(sam, image, position, tokens, prior)
        if learning:
            loss, iou = mask_loss(logits, truth), candidate_iou(logits.detach(), truth)
            candidates = (loss[:, 0] + loss[:, 1:].min(1).values).mean()
            losses.append(candidates + 5 * F.mse_loss(scores, iou))
        best = logits.detach()[torch.arange(len(logits)), scores.argmax(1)]
        full = F.interpolate(best[:, None], scale_factor=low, mode="bilinear")[:, 0]
        prompts.correct((full > 0).cpu().numpy())
        prior = best[:, None].clamp(-LOGIT_LIMIT, LOGIT_LIMIT) if rng.random() < 0.5 else None
    return torch.stack(losses).mean()


class PromptableTrainer:
    """Everything a checkpoint holds: the networks, their running average, the optimiser, the step.

    networks: a ModuleDict of "sam" and "automatic". averaged: the same; the ones to judge and to publish.
    """

    def __init__(
        self, networks: nn.ModuleDict, geometry: WindowGeometry, schedule: PromptableSchedule, seed: int
    ) -> None:
        self.networks, self.geometry, self.schedule, self.seed = networks, geometry, schedule, seed
        self.averaged = copy.deepcopy(networks).eval()
        self.optimizer = torch.optim.AdamW(networks.parameters(), lr=schedule.rate, weight_decay=WEIGHT_DECAY)
        self.step = 0

    def state(self) -> dict[str, Any]:
        return {
            "networks": self.networks.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def update(self, batch: WindowBatch) -> dict[str, float]:
        """One step. The losses of the two parts; a batch without objects trains the automatic decoder alone."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.at(self.step)
        rng = np.random.default_rng([self.seed + 1, self.step])  # another stream than the windows
        self.networks.train()
        embedding = self.networks["sam"].image_encoder(batch.image)
        losses = {"automatic": automatic_loss(self.networks["automatic"](embedding), batch.maps)}
        if batch.masks:
            corrections = self.schedule.corrections(self.step, rng)
            losses["promptable"] = promptable_loss(
                self.networks["sam"], embedding, batch, self.geometry, corrections, rng
            )
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.take_average()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    @torch.no_grad()
    def take_average(self) -> None:
        """By name, not in their order as torch's AveragedModel does it: TinyViT has other buffers when it learns than
        when it is judged."""
        keep = self.schedule.average if self.step else 0.0
        last = self.networks.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(last[name], 1 - keep)
            else:
                value.copy_(last[name])
