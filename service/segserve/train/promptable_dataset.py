"""The data set and data loader of promptable models: random windows of scenes with some of their objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segserve.train.random_window import Recolour, View, cut_window, random_view
from segserve.train.scenes import Scene
from segserve.types import Bool, Preprocess

MAX_PROMPTED_OBJECTS = 8  # in a window
MIN_PROMPTED_OBJECT_PX = 24  # input pixels; smaller objects are not prompted
PREFETCH_BATCHES = 8  # for each worker process

ScenePicker = Callable[[np.random.Generator], Scene]  # returns the scene that a window is cut from


@dataclass(frozen=True)
class WindowGeometry:
    """The size of windows, in input pixels.

    window: the edge of the square window.
    stride: of the encoder; a window's position in the input is a multiple of it.
    """

    preprocess: Preprocess
    window: int
    stride: int


@dataclass(frozen=True)
class UniformScenePicker:
    """`UniformScenePicker` picks every scene equally often."""

    scenes: list[Scene]

    def __call__(self, rng: np.random.Generator) -> Scene:
        return self.scenes[rng.integers(len(self.scenes))]


@dataclass
class WindowBatch:
    """A batch of B windows with N prompted objects in all.

    image: [B, 3, W, W], normalised.
    maps: [B, 3, W/2, W/2], foreground and the two distances, 0 to 1.
    masks: N arrays [W, W] bool.
    image_index: [N], the window of each object.
    offset: [B, 2], the windows' positions in the input, (y, x) in pixels.
    """

    image: Tensor
    maps: Tensor
    masks: list[Bool]
    image_index: Tensor
    offset: NDArray[np.int64]

    @property
    def window(self) -> int:
        """The windows' edge, in input pixels."""
        return int(self.image.shape[-1])

    def to(self, device: str) -> "WindowBatch":
        image, maps, index = (tensor.to(device) for tensor in (self.image, self.maps, self.image_index))
        return WindowBatch(image, maps, self.masks, index, self.offset)


class PromptableWindows(Dataset[dict[str, Any]]):
    """`PromptableWindows` draws windows from an endless stream. Window i depends on the seed and i alone."""

    def __init__(
        self,
        pick: ScenePicker,
        recolour: Recolour,
        geometry: WindowGeometry,
        seed: int,
        numbers: range,
        view: View,
    ) -> None:
        self.pick, self.recolour, self.view, self.geometry = pick, recolour, view, geometry
        self.seed, self.numbers = seed, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        cv2.setNumThreads(0)  # the data loader's processes are parallel already
        rng = np.random.default_rng([self.seed, self.numbers[index]])
        preprocess, window, stride = self.geometry.preprocess, self.geometry.window, self.geometry.stride
        image, labels, distances = cut_window(
            self.pick(rng), window, preprocess, self.recolour, self.view, rng
        )
        counts = np.bincount(labels.ravel())
        ids = [i for i in range(1, len(counts)) if counts[i] >= MIN_PROMPTED_OBJECT_PX]
        rng.shuffle(ids)
        maps = np.concatenate([(labels == 0)[..., None] * np.uint8(255), distances], -1)[::2, ::2]
        return {
            "image": image.transpose(2, 0, 1),
            "masks": [labels == i for i in ids[:MAX_PROMPTED_OBJECTS]],
            "maps": maps.transpose(2, 0, 1),
            "offset": rng.integers(0, (preprocess.input_size - window) // stride + 1, 2) * stride,
        }


def collate_windows(items: list[dict[str, Any]]) -> WindowBatch:
    """Gather the windows of a batch."""
    maps = torch.from_numpy(np.stack([item["maps"] for item in items])).float() / 255
    maps[:, 0] = 1 - maps[:, 0]
    image_index = [index for index, item in enumerate(items) for _ in item["masks"]]
    return WindowBatch(
        image=torch.from_numpy(np.stack([item["image"] for item in items])).float(),
        maps=maps,
        masks=[mask for item in items for mask in item["masks"]],
        image_index=torch.tensor(image_index, dtype=torch.int64),
        offset=np.stack([item["offset"] for item in items]),
    )


def build_data_loader(
    pick: ScenePicker,
    recolour: Recolour,
    geometry: WindowGeometry,
    *,
    seed: int,
    steps: range,
    batch_size: int,
    num_workers: int,
    view: View = random_view,
) -> DataLoader[WindowBatch]:
    """Return a loader of one batch for each of `steps`.

    num_workers: processes that cut windows; 0 cuts them in this process.
    """
    numbers = range(steps.start * batch_size, steps.stop * batch_size)
    loader: DataLoader[WindowBatch] = DataLoader(
        PromptableWindows(pick, recolour, geometry, seed, numbers, view),
        batch_size,
        num_workers=num_workers,
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
        collate_fn=collate_windows,
    )
    return loader
