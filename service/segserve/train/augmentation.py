"""Augmentation: random changes of colour, contrast, focus, orientation and scale that keep the mask true.

`random_window` rotates and scales the windows of promptable models; the classes here do the rest.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.types import Float32, UInt8

# Without it, the import asks the network for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

SCALE_RANGE = (0.7, 1.4)
REFLECT_101 = 4  # cv2.BORDER_REFLECT_101


def colour_transforms() -> list[Any]:
    """Return mild transforms: to a human eye the objects look the same."""
    return [
        A.CLAHE(clip_limit=(1, 3), p=0.2),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(75, 135), p=0.3),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.01, 0.05))], p=0.3),
    ]


class ColourAugmentation:
    """`ColourAugmentation` changes contrast, gamma, blur and noise of an image. It is a `random_window.Recolour`."""

    def __init__(self) -> None:
        self.transform = A.Compose(colour_transforms())

    def __call__(self, image: Float32, labels: NDArray[np.int32], rng: np.random.Generator) -> Float32:
        """Return the image [h, w, 3] float32 in 0..255, changed at random wherever its objects are."""
        self.transform.set_random_seed(int(rng.integers(2**31)))
        changed: UInt8 = self.transform(image=np.rint(image).astype(np.uint8))["image"]
        return changed.astype(np.float32)


class WindowAugmentation:
    """`WindowAugmentation` cuts a random square window of an image and its mask, and changes it at random.

    The window is scaled, rotated by quarters, mirrored and recoloured. Beyond the image's edge it is a reflection.
    """

    def __init__(self, window_px: int) -> None:
        self.transform = A.Compose(
            [
                A.RandomScale((SCALE_RANGE[0] - 1, SCALE_RANGE[1] - 1), p=0.7),
                A.PadIfNeeded(window_px, window_px, border_mode=REFLECT_101, position="random"),
                # Half of the windows hold an object: where objects are rare, most would be empty.
                A.OneOf(
                    [A.RandomCrop(window_px, window_px), A.CropNonEmptyMaskIfExists(window_px, window_px)],
                    p=1.0,
                ),
                A.D4(p=1.0),
                *colour_transforms(),
            ]
        )

    def __call__(
        self, image: UInt8, mask: NDArray[Any], rng: np.random.Generator
    ) -> tuple[UInt8, NDArray[Any]]:
        """Return windows [size, size, 3] and [size, size] of image [H, W, 3] and mask [H, W]."""
        self.transform.set_random_seed(int(rng.integers(2**31)))
        window = self.transform(image=image, mask=mask)
        return window["image"], window["mask"]
