"""The prompts of a training step: clicks and boxes made from the masks, then corrective clicks on the errors."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.masks.simulated_prompts import Click, click_random_error, jitter_box, random_pixel
from segserve.train.promptable_dataset import WindowBatch
from segserve.types import Bool

BOX_PROBABILITY = 0.4  # of a batch; the others begin with a click
CLICK_WITH_BOX_PROBABILITY = 0.15
DEEPEST_CLICK_PROBABILITY = 0.4  # the other first clicks lie on a random pixel


class TrainingPrompts:
    """`TrainingPrompts` keeps the prompts of a batch's N objects, which grow by one click at each correction.

    Coordinates are pixels of the whole input. window: the edge of the windows, in pixels.
    """

    def __init__(self, batch: WindowBatch, window: int, rng: np.random.Generator) -> None:
        self.batch, self.rng = batch, rng
        count = len(batch.masks)
        self.shift = batch.offset[batch.image_index.cpu().numpy()][:, ::-1].astype(np.float32)  # (x, y)
        self.points = np.zeros((count, 0, 2), np.float32)
        self.labels = np.zeros((count, 0), np.float32)
        self.boxes: NDArray[np.float32] | None = None
        if rng.random() < BOX_PROBABILITY:
            boxes = [jitter_box(bounding_box(mask), window, rng) for mask in batch.masks]
            self.boxes = np.stack(boxes) + np.tile(self.shift, 2)
        if self.boxes is None or rng.random() < CLICK_WITH_BOX_PROBABILITY:
            self.add_clicks((*self._first_pixel(mask), 1) for mask in batch.masks)

    def _first_pixel(self, mask: Bool) -> tuple[int, int]:
        is_deepest = self.rng.random() < DEEPEST_CLICK_PROBABILITY
        return deepest_pixel(mask) if is_deepest else random_pixel(mask, self.rng)

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
