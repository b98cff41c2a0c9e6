"""Train the starter from zero: `python training/train.py --data NUCLEI --run DIR`. Run it again to resume.

One step: windows of nuclei and drawn scenes, some objects of each, a first prompt for each object (a click
or a box), then corrective clicks where the answer is wrong, with the last answer as mask prompt half the
time. The automatic decoder learns from the same embeddings. Judged on whole validation images.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from judge import judge
from network import INPUT_SIZE, STRIDE, AutomaticDecoder, build_sam, decode, encode_prompts
from prompts import bounding_box, corrective_click, deepest_pixel, jitter_box, random_pixel
from scenes import Scene, cut_window, draw_scene, read_nuclei

WINDOW = 256
BATCH = 8
OBJECTS = 8  # prompted objects per window, at most
SMALLEST = 24  # input pixels; smaller objects are not prompted
LOW = 4  # input pixels per low-res mask pixel


class Windows(Dataset[dict[str, Any]]):
    """Window number i of an endless, repeatable stream."""

    def __init__(self, nuclei: list[Scene], drawn: list[Scene], seed: int, steps: range) -> None:
        self.nuclei, self.drawn, self.seed, self.steps = nuclei, drawn, seed, steps
        # Looks differ in size of collection; the square root evens them out without drowning the common one.
        looks: dict[tuple[int, ...], int] = {}
        for scene in nuclei:
            looks[scene.labels.shape] = looks.get(scene.labels.shape, 0) + 1
        weights = np.array([looks[s.labels.shape] ** -0.4 for s in nuclei])
        self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return len(self.steps) * BATCH

    def __getitem__(self, index: int) -> dict[str, Any]:
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self.seed, self.steps.start * BATCH + index])
        if rng.random() < 0.25:
            scene = self.drawn[rng.integers(len(self.drawn))]
        else:
            scene = self.nuclei[rng.choice(len(self.nuclei), p=self.weights)]
        image, labels, distances = cut_window(scene, WINDOW, INPUT_SIZE, rng)
        counts = np.bincount(labels.ravel())
        ids = [i for i in range(1, len(counts)) if counts[i] >= SMALLEST]
        rng.shuffle(ids)
        masks = [labels == i for i in ids[:OBJECTS]]
        maps = np.concatenate([(labels == 0)[..., None] * np.uint8(255), distances], -1)[::2, ::2]
        return {
            "image": image.transpose(2, 0, 1),
            "masks": masks,
            "maps": maps.transpose(2, 0, 1),
            "offset": rng.integers(0, (INPUT_SIZE - WINDOW) // STRIDE + 1, 2) * STRIDE,
        }


@dataclass
class Batch:
    """image [B, 3, W, W]; maps [B, 3, W/2, W/2]; masks: N arrays [W, W]; owner [N]: each object's image."""

    image: Tensor
    maps: Tensor
    masks: list[np.ndarray]
    owner: Tensor
    offset: np.ndarray


def collate(items: list[dict[str, Any]]) -> Batch:
    maps = torch.from_numpy(np.stack([i["maps"] for i in items])).float() / 255
    maps[:, 0] = 1 - maps[:, 0]
    return Batch(
        image=torch.from_numpy(np.stack([i["image"] for i in items])).float(),
        maps=maps,
        masks=[m for i in items for m in i["masks"]],
        owner=torch.tensor([k for k, i in enumerate(items) for _ in i["masks"]]),
        offset=np.stack([i["offset"] for i in items]),
    )


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Loss [N, M] of logits [N, M, h, w] against truth [N, 1, h, w], the share of each pixel covered.

    Cross-entropy averaged over the object and a rim around it, plus the average over the rest, plus dice:
    a plain average would drown an object of half a percent of the image.
    """
    inside = truth > 0
    rim = F.max_pool2d(truth, 9, 1, 4) > 0
    near, far = (inside | rim).float(), (~(inside | rim)).float()
    bce = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    weighted = (
        bce * (near / near.sum((2, 3), keepdim=True) * 2 + far / far.sum((2, 3), keepdim=True).clamp(min=1))
    ).sum((2, 3))
    probability = logits.sigmoid()
    overlap = (probability * truth).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return weighted + dice


def true_iou(logits: Tensor, truth: Tensor) -> Tensor:
    found, real = logits > 0, truth > 0.5
    overlap = (found & real).sum((2, 3)).float()
    return overlap / (found | real).sum((2, 3)).clamp(min=1)


class Prompts:
    """The growing prompts of N objects, in coordinates of the whole input."""

    def __init__(self, batch: Batch, rng: np.random.Generator) -> None:
        self.batch, self.rng = batch, rng
        count = len(batch.masks)
        self.shift = batch.offset[batch.owner.numpy()][:, ::-1].astype(np.float32)  # (x, y)
        self.points = np.zeros((count, 0, 2), np.float32)
        self.labels = np.zeros((count, 0), np.float32)
        self.boxes: np.ndarray | None = None
        if rng.random() < 0.4:
            boxes = [jitter_box(bounding_box(m), WINDOW, rng) for m in batch.masks]
            self.boxes = np.stack(boxes) + np.tile(self.shift, 2)
        if self.boxes is None or rng.random() < 0.15:
            clicks = [
                (*(deepest_pixel(m) if rng.random() < 0.4 else random_pixel(m, rng)), 1) for m in batch.masks
            ]
            self.add(clicks)

    def add(self, clicks: list[tuple[int, int, int]]) -> None:
        new = np.array(clicks, np.float32)
        self.points = np.concatenate([self.points, (new[:, :2] + self.shift)[:, None]], 1)
        self.labels = np.concatenate([self.labels, new[:, 2:]], 1)

    def correct(self, logits: Tensor) -> None:
        """One click each where logits [N, h, w] are wrong."""
        found = (F.interpolate(logits[:, None], scale_factor=LOW, mode="bilinear")[:, 0] > 0).numpy()
        self.add([corrective_click(m, f, self.rng) for m, f in zip(self.batch.masks, found, strict=True)])

    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        boxes = None if self.boxes is None else torch.from_numpy(self.boxes).float()
        return torch.from_numpy(self.points), torch.from_numpy(self.labels), boxes


def promptable_loss(
    sam: nn.Module, embedding: Tensor, batch: Batch, corrections: int, rng: np.random.Generator
) -> Tensor:
    """Loss of the first answer and of the one after so many corrective clicks: best of the three candidates,
    the single mask, the scores. The answers between only say where to correct, so they cost no gradient."""
    truth = F.avg_pool2d(torch.from_numpy(np.stack(batch.masks)).float()[:, None], LOW)
    grid, cells = sam.prompt_encoder.get_dense_pe(), WINDOW // STRIDE
    position = torch.stack([grid[0, :, y : y + cells, x : x + cells] for y, x in batch.offset // STRIDE])[
        batch.owner
    ]
    image, prompts, prior = embedding[batch.owner], Prompts(batch, rng), None
    losses = []
    for answer in range(corrections + 1):
        learning = answer in (0, corrections)
        with torch.set_grad_enabled(learning):
            logits, scores = decode(sam, image, position, encode_prompts(sam, *prompts.tensors()), prior)
        if learning:
            loss, iou = mask_loss(logits, truth), true_iou(logits.detach(), truth)
            masks = (loss[:, 0] + loss[:, 1:].min(1).values).mean()
            losses.append(masks + 5 * F.mse_loss(scores, iou))
        best = logits.detach()[torch.arange(len(logits)), scores.argmax(1)]
        prompts.correct(best)
        prior = best[:, None].clamp(-32, 32) if rng.random() < 0.5 else None
    return torch.stack(losses).mean()


def automatic_loss(maps: Tensor, truth: Tensor) -> Tensor:
    """Dice per channel plus mean squared error of the distances inside the objects' reach."""
    overlap = (maps * truth).sum((2, 3))
    dice = 1 - 2 * (overlap + 1) / ((maps**2).sum((2, 3)) + (truth**2).sum((2, 3)) + 2)
    bce = F.binary_cross_entropy(maps.clamp(1e-5, 1 - 1e-5), truth)
    return dice.mean() + bce + 2 * F.mse_loss(maps[:, 1:], truth[:, 1:])


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm up over 200 steps, stay, then fall to zero along a cosine over the last 40%."""
    if step < 200:
        return peak * (step + 1) / 200
    fall = max(0.0, (step - 0.6 * steps) / (0.4 * steps))
    return peak * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


class Training:
    """Everything a checkpoint holds: the networks, their running average, the optimiser, the step."""

    def __init__(self, run: Path) -> None:
        self.path = run / "checkpoint.pt"
        self.networks = nn.ModuleDict({"sam": build_sam(), "automatic": AutomaticDecoder()})
        self.average = torch.optim.swa_utils.AveragedModel(
            self.networks, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(self.networks.parameters(), lr=1e-3, weight_decay=0.02)
        self.step = 0
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            self.networks.load_state_dict(saved["networks"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = saved["step"]

    def save(self) -> None:
        partial = self.path.with_suffix(".partial")
        torch.save(
            {
                "networks": self.networks.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            partial,
        )
        partial.replace(self.path)

    def update(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.networks.train()
        embedding = self.networks["sam"].image_encoder(batch.image)
        automatic = automatic_loss(self.networks["automatic"](embedding), batch.maps)
        # Half the steps train the first answer alone; early on there is nothing worth correcting.
        corrections = 0 if self.step < 800 else int(rng.choice(5, p=[0.5, 0.15, 0.12, 0.12, 0.11]))
        promptable = promptable_loss(self.networks["sam"], embedding, batch, corrections, rng)
        self.optimizer.zero_grad()
        (promptable + automatic).backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.networks)
        self.step += 1
        return {"promptable": promptable.item(), "automatic": automatic.item()}


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
    torch.manual_seed(options.seed)
    training = Training(options.run)
    nuclei, validation = read_nuclei(options.data)
    drawn = [draw_scene(seed) for seed in tqdm(range(options.drawn), desc="drawing")]
    windows = Windows(nuclei, drawn, options.seed, range(training.step, options.steps))
    loader = DataLoader(windows, BATCH, num_workers=1, prefetch_factor=8, collate_fn=collate)
    bar = tqdm(loader, initial=training.step, total=options.steps, desc="training")
    losses: dict[str, float] = {}
    for batch in bar:
        if not batch.masks:
            continue
        rate = learning_rate(training.step, options.steps, options.rate)
        found = training.update(batch, rate, np.random.default_rng([options.seed + 1, training.step]))
        losses = {k: 0.98 * losses.get(k, v) + 0.02 * v for k, v in found.items()}
        bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()})
        if training.step % options.every == 0 or training.step == options.steps:
            training.save()
            networks = training.average.module
            chosen = validation if training.step == options.steps else validation[::4]
            scores = judge(networks["sam"], networks["automatic"], chosen)
            line = {"step": training.step, "time": round(time.time()), **losses, **scores}
            with (options.run / "scores.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            tqdm.write(json.dumps(line))


if __name__ == "__main__":
    main()
