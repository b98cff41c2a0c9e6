"""What one step learns from: windows of scenes with some of their objects, gathered into a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segserve.train.scenes import Recolour, Scene, cut_window
from segserve.types import Bool, Preprocess

MAX_PROMPTED_OBJECTS = 8  # prompted objects per window, at most
MIN_OBJECT_PX = 24  # input pixels; smaller objects are not prompted

# The scene that a window is cut from
ScenePicker = Callable[[np.random.Generator], Scene]


@dataclass(frozen=True)
class WindowGeometry:
    """window, stride: input pixels; the window is a square, its place a multiple of the encoder's stride."""

    preprocess: Preprocess
    window: int
    stride: int


@dataclass(frozen=True)
class UniformScenePicker:
    """Every scene as often as any other."""

    scenes: list[Scene]

    def __call__(self, rng: np.random.Generator) -> Scene:
        return self.scenes[rng.integers(len(self.scenes))]


@dataclass
class WindowBatch:
    """image [B, 3, W, W]; maps [B, 3, W/2, W/2]: foreground and the two distances; masks: N arrays [W, W] bool;
    owner [N]: each object's image; offset [B, 2]: the windows' places in the input, (y, x) in pixels."""

    image: Tensor
    maps: Tensor
    masks: list[Bool]
    owner: Tensor
    offset: NDArray[np.int64]

    def to(self, device: str) -> "WindowBatch":
        image, maps, owner = (tensor.to(device) for tensor in (self.image, self.maps, self.owner))
        return WindowBatch(image, maps, self.masks, owner, self.offset)


class PromptableWindows(Dataset[dict[str, Any]]):
    """Window number i of an endless stream: the same for the same seed, wherever one begins."""

    def __init__(
        self, pick: ScenePicker, recolour: Recolour, geometry: WindowGeometry, seed: int, numbers: range
    ) -> None:
        self.pick, self.recolour, self.geometry = pick, recolour, geometry
        self.seed, self.numbers = seed, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self.seed, self.numbers[index]])
        preprocess, window, stride = self.geometry.preprocess, self.geometry.window, self.geometry.stride
        image, labels, distances = cut_window(self.pick(rng), window, preprocess, self.recolour, rng)
        counts = np.bincount(labels.ravel())
        ids = [i for i in range(1, len(counts)) if counts[i] >= MIN_OBJECT_PX]
        rng.shuffle(ids)
        maps = np.concatenate([(labels == 0)[..., None] * np.uint8(255), distances], -1)[::2, ::2]
        return {
            "image": image.transpose(2, 0, 1),
            "masks": [labels == i for i in ids[:MAX_PROMPTED_OBJECTS]],
            "maps": maps.transpose(2, 0, 1),
            "offset": rng.integers(0, (preprocess.input_size - window) // stride + 1, 2) * stride,
        }


def collate_windows(items: list[dict[str, Any]]) -> WindowBatch:
    maps = torch.from_numpy(np.stack([i["maps"] for i in items])).float() / 255
    maps[:, 0] = 1 - maps[:, 0]
    return WindowBatch(
        image=torch.from_numpy(np.stack([i["image"] for i in items])).float(),
        maps=maps,
        masks=[m for i in items for m in i["masks"]],
        owner=torch.tensor([k for k, i in enumerate(items) for _ in i["masks"]], dtype=torch.int64),
        offset=np.stack([i["offset"] for i in items]),
    )


def build_data_loader(
    pick: ScenePicker,
    recolour: Recolour,
    geometry: WindowGeometry,
    *,
    seed: int,
    steps: range,
    batch: int,
    workers: int,
) -> DataLoader[WindowBatch]:
    """One batch for each of `steps`. workers: processes that cut windows; 0 does it in this one."""
    windows = PromptableWindows(
        pick, recolour, geometry, seed, range(steps.start * batch, steps.stop * batch)
    )
    ahead = 8 if workers else None
    loader: DataLoader[WindowBatch] = DataLoader(
        windows,
        batch,
        num_workers=workers,
        prefetch_factor=ahead,
        collate_fn=collate_windows,
    )
    return loader
