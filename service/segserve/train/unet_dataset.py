"""The data set and data loader of U-Nets: random windows of images with one-hot masks."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segserve.train.augmentation import WindowAugmentation
from segserve.train.dataset_folder import LabelledImage
from segserve.train.scenes import stretch_contrast
from segserve.types import Float32, UInt8

STRETCH_PERCENTILES = (1.0, 99.9)  # of all channels together: many fluorescence images are nearly black
# What the stretched values 0 to 1 are normalised with.
MEAN = 0.5
STD = 0.25
PREFETCH_BATCHES = 8  # for each worker process


def stretch_image(labelled: LabelledImage) -> LabelledImage:
    """Return the labelled image with its contrast stretched."""
    image = stretch_contrast(labelled.image, STRETCH_PERCENTILES)
    return LabelledImage(labelled.name, image, labelled.mask)


def normalise_image(image: UInt8) -> Float32:
    """Return the network's input [3, h, w] for a stretched image [h, w, 3]."""
    return np.asarray((image / 255 - MEAN) / STD, np.float32).transpose(2, 0, 1)


def one_hot_mask(mask: NDArray[Any], classes: int) -> Float32:
    """Return [classes, h, w] of 0 and 1 for a mask [h, w].

    A single class is everything but background. Several classes are the values from 1.
    """
    if classes == 1:
        return (mask > 0)[None].astype(np.float32)
    return (mask[None] == np.arange(1, classes + 1)[:, None, None]).astype(np.float32)


class UnetWindows(Dataset[tuple[Float32, Float32]]):
    """`UnetWindows` draws windows from an endless stream. Window i depends on the seed and i alone."""

    def __init__(
        self, images: list[LabelledImage], classes: int, window_px: int, seed: int, numbers: range
    ) -> None:
        self.images, self.classes, self.seed, self.numbers = images, classes, seed, numbers
        self.augment = WindowAugmentation(window_px)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Float32, Float32]:
        cv2.setNumThreads(0)  # the data loader's processes are parallel already
        rng = np.random.default_rng([self.seed, self.numbers[index]])
        labelled = self.images[rng.integers(len(self.images))]
        image, mask = self.augment(labelled.image, labelled.mask, rng)
        return normalise_image(image), one_hot_mask(mask, self.classes)


def build_data_loader(
    images: list[LabelledImage],
    classes: int,
    *,
    window_px: int,
    seed: int,
    steps: range,
    batch_size: int,
    num_workers: int,
) -> Iterable[tuple[Tensor, Tensor]]:
    """Return a loader of one batch for each of `steps`: images [B, 3, W, W], truth [B, classes, W, W].

    images: stretched.
    num_workers: processes that cut windows; 0 cuts them in this process.
    """
    numbers = range(steps.start * batch_size, steps.stop * batch_size)
    return DataLoader(
        UnetWindows(images, classes, window_px, seed, numbers),
        batch_size,
        num_workers=num_workers,
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
    )
