"""The prompts of a training step: clicks, boxes and masks made from the truth, then corrective clicks on the errors."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.masks.simulated_prompts import Click, click_random_error, jitter_box, random_pixel
from segserve.train.promptable_dataset import WindowBatch
from segserve.train.rough_prompts import click_many, draw_prior_mask, rough_box
from segserve.types import Bool, Float32

DEEPEST_CLICK_PROBABILITY = 0.4  # the other first clicks lie on a random pixel
MIN_MANY_CLICKS = 2
NEGATIVE_SHARES = (0.0, 0.0, 0.2, 0.5)  # of many clicks; one of these for a batch
WRONG_CLICK_SHARE = 0.04  # of many clicks
# A prior is given as the logits of a probability this near to 0 and 1, as the service gives masks to the decoder.
PRIOR_EPSILON = 1e-3
PRIOR_LOGIT = float(np.log((1 - PRIOR_EPSILON) / PRIOR_EPSILON))


@dataclass(frozen=True)
class PromptMix:
    """How often first prompts are what, as probabilities of a batch.

    box: a box; the others are a click.
    click_with_box: of boxes, a click too.
    rough_box: of boxes, one that is clearly too tight or too loose.
    many_clicks: up to `max_clicks` clicks at once, spread or clustered, some of them off the object, a few wrong.
    prior: a mask that is about right, or that of the object with its neighbour.
    """

    box: float = 0.4
    click_with_box: float = 0.15
    rough_box: float = 0.0
    many_clicks: float = 0.0
    max_clicks: int = 96
    prior: float = 0.0


class TrainingPrompts:
    """`TrainingPrompts` keeps the prompts of a batch's N objects, which grow by one click at each correction.

    Coordinates are pixels of the whole input.
    prior: logits [N, w, w] of earlier masks at the windows' size, NaN where there is none; None for none at all.
    """

    def __init__(self, batch: WindowBatch, mix: PromptMix, rng: np.random.Generator) -> None:
        self.batch, self.rng = batch, rng
        count, window = len(batch.masks), batch.window
        self.shift = batch.offset[batch.image_index.cpu().numpy()][:, ::-1].astype(np.float32)  # (x, y)
        self.points = np.zeros((count, 0, 2), np.float32)
        self.labels = np.zeros((count, 0), np.float32)
        self.boxes: NDArray[np.float32] | None = None
        self.prior: Float32 | None = None
        if rng.random() < mix.box:
            draw_box = rough_box if mix.rough_box and rng.random() < mix.rough_box else jitter_box
            boxes = [draw_box(bounding_box(mask), window, rng) for mask in batch.masks]
            self.boxes = np.stack(boxes) + np.tile(self.shift, 2)
        if self.boxes is None or rng.random() < mix.click_with_box:
            self.add_clicks((*self._first_pixel(mask), 1) for mask in batch.masks)
        if mix.many_clicks and rng.random() < mix.many_clicks:
            self._add_many_clicks(mix.max_clicks)
        if mix.prior and rng.random() < mix.prior:
            self.prior = np.stack([self._draw_prior(index) for index in range(count)])

    def _first_pixel(self, mask: Bool) -> tuple[int, int]:
        is_deepest = self.rng.random() < DEEPEST_CLICK_PROBABILITY
        return deepest_pixel(mask) if is_deepest else random_pixel(mask, self.rng)

    def _add_many_clicks(self, max_clicks: int) -> None:
        count = int(np.exp(self.rng.uniform(np.log(MIN_MANY_CLICKS), np.log(max_clicks))))
        negatives = int(count * self.rng.choice(NEGATIVE_SHARES))
        labels = np.arange(count) >= negatives
        is_clustered = self.rng.random() < 0.5
        wrong_share = WRONG_CLICK_SHARE if self.rng.random() < 0.5 else 0.0
        clicks = [
            click_many(mask, labels, self.rng, clustered=is_clustered, wrong_share=wrong_share)
            for mask in self.batch.masks
        ]
        for number in range(count):
            self.add_clicks(each[number] for each in clicks)

    def _draw_prior(self, index: int) -> Float32:
        """Return the logits [w, w] of an earlier mask of the object."""
        mask = draw_prior_mask(self.batch.masks[index], self._nearest_other(index), self.rng)
        return np.where(mask, np.float32(PRIOR_LOGIT), np.float32(-PRIOR_LOGIT))

    def _nearest_other(self, index: int) -> Bool | None:
        """Return the mask of the object nearest to this one, of the prompted objects in its window."""
        images = self.batch.image_index.cpu().numpy()
        others = [int(i) for i in np.flatnonzero(images == images[index]) if i != index]
        if not others:
            return None
        boxes = np.array([bounding_box(mask) for mask in self.batch.masks])
        distances = np.abs(boxes[others] - boxes[index]).sum(axis=1)
        return self.batch.masks[others[int(distances.argmin())]]

    def add_clicks(self, clicks: Iterable[Click]) -> None:
        """Add one click to each object, in pixels of its window."""
        new = np.array(list(clicks), np.float32)
        self.points = np.concatenate([self.points, (new[:, :2] + self.shift)[:, None]], 1)
        self.labels = np.concatenate([self.labels, new[:, 2:]], 1)

    def add_corrections(self, predictions: Bool) -> None:
        """Add to each object one click where its prediction, of [N, h, w], is wrong."""
        pairs = zip(self.batch.masks, predictions, strict=True)
        self.add_clicks(click_random_error(mask, prediction, self.rng) for mask, prediction in pairs)

    def to_tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (points [N, P, 2], labels [N, P], boxes [N, 4] or None)."""
        boxes = None if self.boxes is None else torch.from_numpy(self.boxes).float().to(device)
        return torch.from_numpy(self.points).to(device), torch.from_numpy(self.labels).to(device), boxes
